"""What the headers of a request say of its caller, read once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from starlette.datastructures import Headers
from starlette.types import Scope

from authsvc.net.bearer import AmbiguousCredentialsError, presented_token
from mcp_adapter.gate import eras, forwarding, refusals, session_ids


@dataclass(slots=True, repr=False)
class RequestHeaders:
    """The headers of one request.

    Attributes:
        headers: all of them.
        token: the bearer token; empty without one.
        session_id: the session that is named; empty without one, or outside the era of sessions.
        version: the revision of MCP.
        is_verified: whether the token was found to be valid.
    """

    headers: Headers
    token: str
    session_id: str
    version: str
    is_verified: bool = False

    @classmethod
    def of(cls, scope: Scope) -> Self:
        """
        Raises:
            Refusal: 400 for a header that must be one and is several, and for a revision of MCP
                that is not known.
        """
        headers = Headers(scope=scope)
        forwarding.check_headers(headers)
        try:
            token = presented_token(headers.getlist("authorization"))
        except AmbiguousCredentialsError:
            raise refusals.ambiguous_credentials() from None
        version = eras.protocol_version(headers)
        named = headers.get(session_ids.HEADER, "") if eras.has_sessions(version) else ""
        return cls(headers, token, named, version)

    @property
    def in_session_era(self) -> bool:
        """Whether this request's revision has sessions. A session id of a later one is dropped."""
        return eras.has_sessions(self.version)

    def required_session_id(self) -> str:
        """
        Raises:
            Refusal: 400 without one. No default takes its place: such requests share nothing.
        """
        if not self.session_id:
            raise refusals.bad_request("The Mcp-Session-Id header is missing.")
        return self.session_id
