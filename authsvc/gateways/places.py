"""Where a resource is reached behind gateways: hosts, and a path with all below it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote, urlsplit

from authsvc.net.hosts import Authority, read_authority
from authsvc.net.urls import DEFAULT_PORTS


@dataclass(frozen=True, slots=True)
class Place:
    """The hosts and the path of one resource.

    Attributes:
        authorities: hosts, with their ports.
        path: decoded, without a slash at its end.
    """

    authorities: frozenset[Authority]
    path: str

    @classmethod
    def of(cls, resource: str, hosts: Iterable[str] = (), path: str = "") -> Self:
        """That of a resource.

        Args:
            resource: its canonical URI.
            hosts: each with its port unless that is the scheme's default; empty for its own.
            path: decoded; empty for its own.
        """
        parts = urlsplit(resource)
        read = (read_authority(host, parts.scheme) for host in tuple(hosts) or (parts.netloc,))
        return cls(
            frozenset(authority for authority in read if authority is not None),
            (path or unquote(parts.path)).rstrip("/"),
        )

    def has_host(self, host: str) -> bool:
        """Whether it is at a host, as a request names it. The scheme of a request is not known
        behind a proxy that ends TLS."""
        return any(read_authority(host, scheme) in self.authorities for scheme in DEFAULT_PORTS)

    def has_path(self, path: str) -> bool:
        """Whether a decoded path is its own, or below it."""
        return _is_below(self.path, path)

    def may_have_path(self, path: str) -> bool:
        """Whether a server may take a decoded path for its own, or for one below it."""
        return _is_below(_folded(self.path), _folded(path))


_END = re.compile(r"[;?#\0]")


def _folded(path: str) -> str:
    """A path without what a server may ignore in it: case, white space, and what follows in a
    segment upon a sign that begins something else elsewhere."""
    segments = (_END.split(segment, maxsplit=1)[0].strip() for segment in path.split("/"))
    return "/".join(segments).casefold()


def _is_below(own: str, path: str) -> bool:
    return path.rstrip("/") == own or path.startswith(f"{own}/")


def plain_path(path: str) -> str | None:
    """A path, decoded; None where it can be read in several ways.

    An upstream may resolve dots, merge slashes, cut parameters off the segments, or decode once
    more before it routes: it would then serve another path.
    """
    decoded = unquote(path)
    segments = decoded.split("/")
    names = {segment.partition(";")[0] for segment in segments}
    is_plain = (
        decoded.startswith("/")
        and decoded.count("/") == path.count("/")
        and not {"\\", "%"} & set(decoded)
        and names.isdisjoint({".", ".."})
        and "" not in segments[1:-1]
    )
    return decoded if is_plain else None
