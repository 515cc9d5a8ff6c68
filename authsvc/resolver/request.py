"""One request to resolve, as the parts of the resolver hand it on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from authsvc.domain.credential_requests import DEFAULT, CredentialRequest
from authsvc.domain.rates import ONE_CALL, CallCounts
from authsvc.domain.tokens import BearerToken


class Origin(TypedDict):
    """Where a request comes from, for its audit."""

    caller: str
    resource: str
    client_address: str


class AuditFields(Origin):
    """Which request an audit event is about."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        caller: the name of the MCP server that sent it.
        session_id: the session; for a principal session, its id once it is known.
        token: the token presented; None without one.
        resource: the resource that the token has to be valid for.
        consistency_token: the response is at least as new as this write; empty for any.
        request_digest: the key of the response in the cache; empty where it is not to be cached.
        client_address: IP address of the caller's client; empty where it is not known.
        counts: what it counts as, towards the limits of its subject and client.
        selection: which credentials it asks for by name; None where it has ``wanted``.
        wanted: which credentials it gets without asking by name.
    """

    caller: str
    session_id: str
    token: BearerToken | None
    resource: str
    consistency_token: str = ""
    request_digest: bytes = b""
    client_address: str = ""
    counts: CallCounts = ONE_CALL
    selection: tuple[CredentialRequest, ...] | None = None
    wanted: CredentialRequest = DEFAULT

    @property
    def audit_fields(self) -> AuditFields:
        """What its audit events have in common."""
        return {
            "caller": self.caller,
            "session_id": self.session_id,
            "resource": self.resource,
            "client_address": self.client_address,
        }

    @property
    def origin(self) -> Origin:
        """What the audit events of its session have in common."""
        return {
            "caller": self.caller,
            "resource": self.resource,
            "client_address": self.client_address,
        }


def bearer(text: str) -> BearerToken | None:
    """The token of a request; None where the request has none."""
    return BearerToken(text) if text else None
