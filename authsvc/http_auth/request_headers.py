"""What the headers of a request say of its caller, read once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from authsvc.http_auth import eras, forwarding, refusals
from authsvc.http_auth.headers import SESSION_ID, Headers
from authsvc.net.bearer import AmbiguousCredentialsError, presented_token


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
    def of(cls, headers: Headers) -> Self:
        """What they say.

        Raises:
            Refusal: 400 for a header that must be one and is several, and for a revision of MCP
                that is not known.
        """
        forwarding.check_headers(headers)
        try:
            token = presented_token(headers.getlist("authorization"))
        except AmbiguousCredentialsError:
            raise refusals.ambiguous_credentials() from None
        version = eras.protocol_version(headers)
        named = headers.get(SESSION_ID) if eras.has_sessions(version) else ""
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
