"""Errors of authsvc as HTTP answers, for services that serve no MCP."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, Self

from authsvc.common import arguments
from authsvc.domain.errors import AuthError, Reason
from authsvc.http_auth.statuses import (
    INSUFFICIENT_SCOPE,
    LACKS_SCOPE,
    UNAUTHENTICATED,
    challenge_of,
    http_status,
    retry_headers,
)
from authsvc.net.bearer import Challenge, presented_token


def bearer_token(authorization: str | None) -> str:
    """The token of an Authorization header (RFC 6750 section 2.1); empty where it presents none.

    Args:
        authorization: the header's value; None for a request without it.
    """
    return presented_token([] if authorization is None else [authorization])


class HttpError(Exception):
    """An answer that denies a request, for a REST service: problem details (RFC 9457), with a
    member ``reason`` where there is a token, ``limit`` where one is reached, and the headers that
    clients act on.

    It can be raised, and iterates over ``body``, ``status`` and ``headers``: ``Response(*error)``
    is Starlette's answer, ``tuple(error)`` Flask's.

    Args:
        body: JSON.
        status: the HTTP status.
        headers: with ``Content-Type``, and ``WWW-Authenticate`` or ``Retry-After`` where a client
            can act on one.
    """

    def __init__(self, body: bytes, status: int, headers: dict[str, str]) -> None:
        super().__init__(f"{status} {body.decode()}")
        self.body = body
        self.status = status
        self.headers = headers

    def __iter__(self) -> Iterator[Any]:
        return iter((self.body, self.status, self.headers))

    @classmethod
    def of(
        cls,
        error: AuthError | HttpError,
        *,
        in_session: bool = False,
        scopes: Iterable[str] = (),
        resource_metadata: str = "",
    ) -> HttpError:
        """The answer to an error of authsvc. It has the public message, and never the detail.

        Args:
            error: what ``resolve`` raised. An ``HttpError`` is its own answer, so that one handler
                serves both.
            in_session: whether the client named a session.
            scopes: what the request needs, for the challenge.
            resource_metadata: URL of the resource's metadata (RFC 9728), for the challenge.

        Raises:
            TypeError: ``scopes`` is one string.
        """
        if isinstance(error, HttpError):
            return error
        needed = arguments.scopes("scopes", scopes)
        status = http_status(error.reason, in_session=in_session)
        is_hidden = status is HTTPStatus.NOT_FOUND
        reason = Reason.SESSION_NOT_FOUND if is_hidden else error.reason
        return cls._made(
            status,
            reason.message if is_hidden else error.message,
            reason.name,
            challenge=challenge_of(reason, status, needed),
            resource_metadata=resource_metadata,
            headers=retry_headers(error, status),
            limit=error.limit,
        )

    @classmethod
    def unauthenticated(cls, *, scopes: Iterable[str] = (), resource_metadata: str = "") -> Self:
        """401 for a request without a token; arguments as ``of``."""
        return cls._made(
            HTTPStatus.UNAUTHORIZED,
            UNAUTHENTICATED,
            "",
            challenge=Challenge(arguments.scopes("scopes", scopes)),
            resource_metadata=resource_metadata,
        )

    @classmethod
    def insufficient_scope(cls, scopes: Iterable[str], *, resource_metadata: str = "") -> Self:
        """403 for a token that lacks one of the scopes that the request needs; see ``of``."""
        needed = arguments.scopes("scopes", scopes)
        return cls._made(
            HTTPStatus.FORBIDDEN,
            LACKS_SCOPE,
            INSUFFICIENT_SCOPE,
            challenge=Challenge(needed, "insufficient_scope", LACKS_SCOPE),
            resource_metadata=resource_metadata,
        )

    @classmethod
    def _made(
        cls,
        status: HTTPStatus,
        message: str,
        reason: str,
        *,
        challenge: Challenge | None,
        resource_metadata: str,
        headers: dict[str, str] | None = None,
        limit: str = "",
    ) -> Self:
        problem = {"title": message, "status": status.value}
        if reason:
            problem["reason"] = reason
        if limit:
            problem["limit"] = limit
        all_headers = {
            "Content-Type": "application/problem+json",
            "Cache-Control": "no-store",
            **(headers or {}),
        }
        if challenge is not None:
            all_headers["WWW-Authenticate"] = challenge.header(resource_metadata)
        return cls(json.dumps(problem).encode(), status.value, all_headers)
