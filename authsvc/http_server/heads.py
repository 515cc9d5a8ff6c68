"""Rejects request heads that two servers could read differently (request smuggling).

llhttp, below httptools, checks characters and the lengths of bodies. This module checks what llhttp
leaves to its users (RFC 9112, sections 3.2, 6.1 and 6.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_ABSOLUTE = re.compile(rb"https?://([^/?#]+)/.*", re.IGNORECASE)

Headers = Iterable[tuple[bytes, bytes]]


class HeadError(Exception):
    """A request that is rejected.

    Args:
        status: HTTP status of the response.
        reason: the label of the metric, and the word in the log.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def check_head(version: str, headers: Headers) -> None:
    """Reject a head that is ambiguous about where the request ends, or which host it is for.

    Args:
        version: of HTTP, such as ``1.1``.
        headers: names in lower case, and values.

    Raises:
        HeadError: the head is ambiguous.
    """
    if version not in {"1.0", "1.1"}:
        raise HeadError(505, "malformed")
    hosts = lengths = codings = 0
    for name, value in headers:
        match name:
            case b"host":
                hosts += 1
            case b"content-length":
                lengths += 1
                # llhttp parses digits; any other value is rejected here.
                if not value.isdigit():
                    raise HeadError(400, "malformed")
            case b"transfer-encoding":
                codings += 1
                if value.lower() != b"chunked":
                    raise HeadError(501, "malformed")
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise HeadError(400, "malformed")
    if codings > 1 or lengths > 1 or (codings and (lengths or version == "1.0")):
        raise HeadError(400, "malformed")


def check_target(target: bytes, headers: Headers) -> None:
    """Reject a target that names another host than Host does (RFC 9112 section 3.2.2).

    An app sees Host and the path alone, and by the RFC the host of the target counts.

    Args:
        target: of the request line.
        headers: names in lower case, and values.

    Raises:
        HeadError: it does, or has no path, which uvicorn could not read.
    """
    if target.startswith(b"/") or target == b"*":
        return
    found = _ABSOLUTE.fullmatch(target)
    hosts = [value for name, value in headers if name == b"host"]
    if found is None or [found[1].lower()] != [host.lower() for host in hosts]:
        raise HeadError(400, "malformed")


def check_upgrade(method: bytes, headers: Headers) -> None:
    """Reject a request for another protocol, unless it has no body.

    Args:
        method: of a request with the header Upgrade, or CONNECT.
        headers: names in lower case, and values.

    Raises:
        HeadError: the method is CONNECT, to which any 2xx response would open a tunnel; or the
            request has a body, which httptools would take for bytes of the other protocol.
    """
    lengths = [value for name, value in headers if name == b"content-length"]
    is_chunked = any(name == b"transfer-encoding" for name, _ in headers)
    if method == b"CONNECT" or is_chunked or any(value.strip(b"0") for value in lengths):
        raise HeadError(501, "malformed")
