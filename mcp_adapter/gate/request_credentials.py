"""Credentials for one request, issued when a tool asks for them, for as long as it is served.

An app finds a ``RequestCredentials`` in the state of its request. Neither it nor what it refers to
shows the request's token: it has no repr of it, no ``__dict__``, and cannot be pickled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn, Self

from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Credentials
from authsvc.http_auth.authorizer import Admitted
from authsvc.http_auth.resolving import RequestResolver

STATE_KEY = "authsvc.request_credentials"
"""Where it is in the state of a request."""

Issue = Callable[[CredentialRequest], Awaitable[Credentials | None]]
"""Asks for credentials; None where the principal has none.

Raises:
    AuthError: they are refused or unavailable, or the caller may not have them any more.
"""


class RequestCredentials:
    """Issues credentials to the caller of one request, until ``end``.

    Args:
        issue: asks for them.
    """

    __slots__ = ("__issue",)

    def __init__(self, issue: Issue) -> None:
        self.__issue: Issue | None = issue

    async def issue(self, wanted: CredentialRequest) -> Credentials | None:
        """Credentials of the caller; None where it has none.

        Raises:
            AuthError: they are refused or unavailable; the caller's token or session has ended, or
                its request.
        """
        if (issue := self.__issue) is None:
            raise _ended()
        issued = await issue(wanted)
        if self.__issue is None:
            raise _ended()
        return issued

    def end(self) -> None:
        """Issue no more: the response is complete."""
        self.__issue = None

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self  # a copy of a scope must not outlive its request

    def __reduce__(self) -> NoReturn:
        raise TypeError("the credentials of a request are not pickled")


def of_admitted(
    resolving: RequestResolver, admitted: Admitted, session_id: str
) -> RequestCredentials | None:
    """Those of a request that is being served; None without a token.

    Args:
        resolving: asks.
        admitted: the request.
        session_id: of the session that it is in; empty for none.
    """
    request, needed = admitted.request, admitted.needed
    if (principal := admitted.resolution.principal) is None:
        return None

    # A closure and no partial, whose repr would show its arguments.
    async def issue(wanted: CredentialRequest) -> Credentials | None:
        return await resolving.credentials(request, needed, session_id, wanted, principal)

    return RequestCredentials(issue)


def _ended() -> AuthError:
    return AuthError(Reason.CREDENTIALS_REFUSED, "the request has ended")
