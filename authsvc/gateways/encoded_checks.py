"""A CheckRequest whose headers are left encoded: most of them say nothing to authsvc.

The headers that do are the same in each request of a client. Their digest finds what was read of
them before; what differs from request to request is not in it.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from google.protobuf.message import DecodeError

from authsvc.domain.errors import AuthError, Reason
from authsvc.http_auth import forwarding
from authsvc.internal.v1.ext_authz_pb2 import ExtAuthzFrame, ExtAuthzRequest

RESOURCE = "resource"
"""The name in ``context_extensions`` by which a route of the gateway names its resource."""

PARTIAL = "x-envoy-auth-partial-body"
"""Says whether a body was cut off. Envoy sets it, and leaves out a client's header of that name."""

REPLACEMENTS = ("!", "\N{REPLACEMENT CHARACTER}")
"""What Envoy, and agentgateway, put in the place of invalid UTF-8 in a body that they send as text.
"""

_NAME = 0x0A
"""Tag of a header's name: field 1, length-delimited."""

_LONGEST_NAME = 0x7F
"""Beyond it, the length takes more than one byte."""

_LENGTH = b"content-length"
_LENGTH_IS_RIGHT = b"the length of the body"
_VALUES = (0x12, 0x1A)
"""Tags of a header's value: as text, and as bytes."""


@dataclass(frozen=True, slots=True, repr=False)
class EncodedCheck:
    """One HTTP request, as a gateway sends it for a check.

    Attributes:
        http: the request.
        resource: as the gateway's route names it; empty where it does not.
        headers: that are read, encoded (``ExtAuthzRequest.HeaderValue``).
        source: who sent it, encoded (``ExtAuthzRequest.Peer``).
    """

    http: ExtAuthzFrame.Http
    resource: str
    headers: list[bytes]
    source: bytes

    @classmethod
    def of(cls, encoded: bytes) -> Self:
        """What a gateway has sent.

        Raises:
            AuthError: ARGUMENT_INVALID: it is no CheckRequest, has no HTTP request, has headers in
                both forms, or one without a name.
        """
        try:
            attributes = ExtAuthzFrame.FromString(encoded).attributes
        except DecodeError:
            raise AuthError(Reason.ARGUMENT_INVALID, "no CheckRequest") from None
        http = attributes.request.http
        if not http.method:
            raise AuthError(Reason.ARGUMENT_INVALID, "the CheckRequest has no HTTP request")
        if http.HasField("header_map") and http.headers:
            raise AuthError(
                Reason.ARGUMENT_INVALID, "headers in both forms can be read in two ways"
            )
        try:
            read = [header for header in _all(http) if _is_read(header[: header[1] + 2])]
        except IndexError:
            raise AuthError(Reason.ARGUMENT_INVALID, "a header has no name") from None
        resource = attributes.context_extensions.get(RESOURCE, "")
        return cls(http, resource, read, attributes.source)

    @property
    def is_listed(self) -> bool:
        """Whether the headers are a list as they came, not a map."""
        return self.http.HasField("header_map")

    def traceparent(self) -> str:
        """The header ``traceparent``; empty without one."""
        return next(iter(self.values("traceparent")), "")

    def values(self, name: str) -> list[str]:
        """The values of a header, whether or not it is in ``headers``.

        Args:
            name: in lower case, of at most 127 characters.
        """
        start = b"%c%c%b" % (_NAME, len(name), name.encode())
        found = []
        for encoded in _all(self.http):
            if encoded.startswith(start):
                with suppress(DecodeError):
                    header = ExtAuthzRequest.HeaderValue.FromString(encoded)
                    found.append(header.raw_value.decode("latin-1") or header.value)
        return found

    def peer(self) -> str:
        """Address that the request came to the gateway from; empty where it has none."""
        try:
            return ExtAuthzRequest.Peer.FromString(self.source).address.socket_address.address
        except DecodeError:
            return ""

    def whole_body(self) -> bytes:
        """The body, if it is complete unless a header says otherwise; empty where it may not be."""
        http = self.http
        if http.body and any(replacement in http.body for replacement in REPLACEMENTS):
            return b""
        body = http.raw_body or http.body.encode()
        return body if 0 <= http.size <= len(body) else b""

    def digest(self, caller: str, body: bytes) -> bytes:
        """The SHA-256 of what a decision depends on beside the message in the body.

        Args:
            caller: the gateway's name.
            body: the whole body. Its length is not part of the digest, but whether the header that
                tells it is right.
        """
        http = self.http
        rights = _lengths(len(body))
        headers = [_LENGTH_IS_RIGHT if it in rights else it for it in self.headers]
        is_listed = self.is_listed
        if not is_listed:
            headers.sort()  # a map has no order
        place = repr((caller, self.resource, http.method, http.host, http.path, is_listed))
        return hashlib.sha256(b"".join((place.encode(), *headers))).digest()


def _all(http: ExtAuthzFrame.Http) -> list[bytes]:
    return list(http.header_map.headers or http.headers)


@lru_cache(maxsize=4096)
def _is_read(start: bytes) -> bool:
    """Whether a header is read.

    Args:
        start: tag, length and text of its name, where the length is one byte; of other headers
            something else.
    """
    if start[0] != _NAME or start[1] != len(start) - 2 or start[1] > _LONGEST_NAME:
        return True
    name = start[2:]
    is_pseudo_header = name[:1] == b":"
    return not is_pseudo_header and (forwarding.is_read(name) or name == PARTIAL.encode())


@lru_cache(maxsize=4096)
def _lengths(size: int) -> tuple[bytes, ...]:
    """Content-Length of a body, encoded in each way."""
    digits = b"%d" % size
    return tuple(
        b"\x0a%c%b%c%c%b" % (len(_LENGTH), _LENGTH, tag, len(digits), digits) for tag in _VALUES
    )
