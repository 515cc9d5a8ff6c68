"""The host that a client asked a proxy for, by what the proxy says of it.

Proxies give it in ``Forwarded`` (RFC 7239) or in ``X-Forwarded-Host``. Clients can send both, so
they count only where their sender is trusted, and only where they say one thing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from starlette.datastructures import Headers

from authsvc.common.printable import printable
from authsvc.net.hosts import read_authority
from authsvc.net.peers import Peers

FORWARDED = "forwarded"
X_FORWARDED_HOST = "x-forwarded-host"

SHOWN_CHARACTERS = 64
"""How much of a sender's address a remedy shows: more than the longest IPv6 address."""

_PAIR = re.compile(
    r"[ \t]*(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)="
    # Colons and brackets need quotes, which some proxies leave out. It can be read in one way only.
    r"(?:(?P<token>[!#$%&'*+.^_`|~0-9A-Za-z:\[\]-]+)|\"(?P<quoted>(?:[^\"\\]|\\.)*)\")"
    r"[ \t]*(?P<end>[;,]|\Z)"
)
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class RequestedHost:
    """The host that a request is for.

    Attributes:
        host: as it is written; empty without one.
        fault: whether it cannot be told which host is meant.
        remedy: what an operator does who wants it to be served.
        setting: the setting that does it; empty where the proxy is to be corrected.
    """

    host: str
    fault: bool
    remedy: str
    setting: str = ""

    @classmethod
    def of(cls, headers: Headers, peer: str, proxies: Peers, *, scheme: str) -> Self:
        """What the headers of a request say.

        Args:
            headers: all of them.
            peer: the address that they came from; empty where it has none.
            proxies: those whose word counts.
            scheme: whose default port is left out.
        """
        hosts = headers.getlist("host")
        says = FORWARDED in headers or X_FORWARDED_HOST in headers
        trusted = says and proxies.include(peer)
        remedy, setting = "if it is this server's, add it to allowed_hosts", "allowed_hosts"
        if says and not trusted:
            setting = "trusted_proxies"
            # An HTTP server may take it from a header.
            sender = printable(peer)[:SHOWN_CHARACTERS] or "unix"
            remedy += (
                f"; or, if its sender, {sender} as the HTTP server says, is your proxy "
                "and no client, whose Forwarded or X-Forwarded-Host is ignored now, add that to "
                "trusted_proxies (a server that reads X-Forwarded-For, as uvicorn does by default, "
                "says the client: start it with proxy_headers=False)"
            )
        if trusted:
            try:
                hosts = _forwarded_hosts(headers, scheme) or hosts
            except ValueError as error:
                return cls("", True, f"{error}: correct the proxy, which sets one of the headers")
        if len(hosts) > 1:
            remedy = "the request names several: have the proxy replace what clients send"
            setting = ""
        return cls(", ".join(hosts), len(hosts) != 1, remedy, setting)


def _forwarded_hosts(headers: Headers, scheme: str) -> list[str]:
    """What the proxies say that the client asked for, each once, in whichever spelling; empty where
    they say nothing.

    Of ``Forwarded`` the last element counts too: it is the nearest proxy's.

    Raises:
        ValueError: a header is malformed, or the nearest proxy says nothing, and another does.
    """
    values = headers.getlist(X_FORWARDED_HOST)
    found = [host.strip(" \t") for value in values for host in value.split(",")]
    elements = _elements(", ".join(headers.getlist(FORWARDED)))
    named = [pairs["host"] for pairs in elements if "host" in pairs]
    if named and "host" not in elements[-1]:
        raise ValueError("the last element of Forwarded has no host")
    return list({read_authority(host, scheme) or host: host for host in found + named}.values())


def _elements(text: str) -> list[dict[str, str]]:
    """The elements of ``Forwarded``, the farthest proxy's first, with names in lower case."""
    elements: list[dict[str, str]] = [{}]
    place = 0
    while place < len(text):
        pair = _PAIR.match(text, place)
        if pair is None or (name := pair["name"].lower()) in elements[-1]:
            raise ValueError("Forwarded is malformed")
        elements[-1][name] = pair["token"] or _ESCAPED.sub(r"\1", pair["quoted"])
        if pair["end"] == ",":
            elements.append({})
        place = pair.end()
    return elements
