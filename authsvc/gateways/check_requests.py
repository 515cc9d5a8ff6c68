"""An HTTP request as a gateway sends it for a check (envoy.service.auth.v3.CheckRequest).

Envoy sends headers in one of two forms. A map has one value for a name: those of repeated headers
joined by commas. A list has them as they came (``encode_raw_headers``), but for a few that Envoy
always joins, such as Authorization. A header that a request has once at most is therefore split at
its commas again, so that it is refused as a repeated one.

A body is complete, or it is not read at all: what follows upon a part of it could change its
meaning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from google.protobuf.message import DecodeError

from authsvc.common.rarely import Rarely
from authsvc.domain.errors import AuthError, Reason
from authsvc.gateways.encoded_checks import PARTIAL, REPLACEMENTS, EncodedCheck
from authsvc.http_auth import forwarding
from authsvc.http_auth.headers import Headers
from authsvc.internal.v1.ext_authz_pb2 import ExtAuthzFrame, ExtAuthzRequest

log = logging.getLogger(__name__)

NOTE_INTERVAL_SECONDS = 3600.0
"""From one log line about such a body to the next."""

_notes = Rarely(NOTE_INTERVAL_SECONDS)


@dataclass(frozen=True, slots=True, repr=False)
class CheckedRequest:
    """One HTTP request.

    Attributes:
        method: in capitals.
        host: what the client asked for; may have a port.
        path: not decoded, without the query.
        headers: those that can change what becomes of the request.
        body: None unless it is complete.
        has_body: whether some of it has come, or is announced.
        resource: as the gateway's route names it; empty where it does not.
    """

    method: str
    host: str
    path: str
    headers: Headers
    body: bytes | None
    has_body: bool
    resource: str

    @classmethod
    def of(cls, check: EncodedCheck) -> Self:
        """What a gateway has sent.

        Raises:
            AuthError: ARGUMENT_INVALID: a header is none.
        """
        http = check.http
        headers = Headers(list(_read(check)))
        return cls(
            http.method,
            http.host,
            http.path.partition("?")[0],
            headers,
            _complete_body(check, headers),
            _has_body(http, headers),
            check.resource,
        )


def _read(check: EncodedCheck) -> Iterator[tuple[bytes, bytes]]:
    """The headers.

    Raises:
        AuthError: ARGUMENT_INVALID.
    """
    is_listed = check.is_listed
    try:
        for header in map(ExtAuthzRequest.HeaderValue.FromString, check.headers):
            name, value = header.key.encode(), header.raw_value or header.value.encode()
            # Names of tools and the like may have commas, and are not among those that Envoy joins.
            if b"," in value and not (is_listed and name.startswith(b"mcp-")):
                yield from _separated(name, value)
            else:
                yield name, value
    except DecodeError:
        raise AuthError(Reason.ARGUMENT_INVALID, "a header is none") from None


def _separated(name: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The headers that a value may have been joined of."""
    if b"," in value and forwarding.comes_once(name.lower()):
        for one in value.split(b","):
            yield name, one
    else:
        yield name, value


def _has_body(http: ExtAuthzFrame.Http, headers: Headers) -> bool:
    """Whether there is a body, whether or not the gateway sends it here."""
    announced = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
    return bool(http.raw_body or http.body or http.size > 0 or announced)


def _complete_body(check: EncodedCheck, headers: Headers) -> bytes | None:
    """The body; None where some of it is missing, or may be."""
    http = check.http
    body = http.raw_body or http.body.encode()
    if any(value.lower() != "false" for value in headers.getlist(PARTIAL)):
        return None
    if http.body and any(replacement in http.body for replacement in REPLACEMENTS):
        if _notes.may_pass(REPLACEMENTS):
            log.warning(
                "a body counts as cut off, since the gateway sends bodies as text, and may have "
                "replaced a part of it: set pack_as_bytes there"
            )
        return None
    declared = headers.getlist("content-length")
    # A negative size is not known: agentgateway's, of a body that it has cut off.
    if any(length != str(len(body)) for length in declared) or not 0 <= http.size <= len(body):
        return None
    # Without a length, nothing tells an empty body from one that was not sent.
    return body if body or declared else None
