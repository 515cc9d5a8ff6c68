"""What a request's head may not be: ways in which two servers read one request differently.

llhttp, below httptools, judges characters and the lengths of bodies. What it leaves to its users is
judged here (RFC 9112, sections 3.2, 6.1 and 6.3).
"""

from __future__ import annotations

from collections.abc import Iterable

Headers = Iterable[tuple[bytes, bytes]]


class HeadError(Exception):
    """A request that is not served, and why.

    Args:
        status: of the answer.
        reason: a word for logs and metrics.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def check(version: str, headers: Headers) -> None:
    """Refuse a head that leaves doubts about where the request ends, or for whom it is.

    Args:
        version: of HTTP, such as ``1.1``.
        headers: names in lower case, and values.

    Raises:
        HeadError: it does.
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
                # llhttp reads digits; it is asked for nothing else.
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


def check_upgrade(method: bytes, headers: Headers) -> None:
    """Refuse a request after which another protocol is to follow, unless it ends with its head.

    Args:
        method: of a request that asks for another protocol.
        headers: names in lower case, and values.

    Raises:
        HeadError: it is CONNECT, which any 2xx would make a tunnel; or it has a body, which
            httptools would take for the other protocol's.
    """
    lengths = [value for name, value in headers if name == b"content-length"]
    is_chunked = any(name == b"transfer-encoding" for name, _ in headers)
    if method == b"CONNECT" or is_chunked or any(value.strip(b"0") for value in lengths):
        raise HeadError(501, "malformed")
