"""The JWK Set over HTTP: a WSGI application for ``common.wsgi_serving``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from authsvc.domain.errors import AuthError

JWKS_PATH = "/.well-known/jwks.json"

MAX_AGE_SECONDS = 300
"""How long verifiers may cache the JWK Set."""


def jwks_application(jwks: Callable[[], bytes]) -> WSGIApplication:
    """Serves a JWK Set at ``JWKS_PATH``, to GET and HEAD.

    Args:
        jwks: the set, encoded; raises ``AuthError`` while there is none. Called in any thread.
    """

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != JWKS_PATH:
            return _answer(start_response, HTTPStatus.NOT_FOUND)
        method = environ["REQUEST_METHOD"]
        if method not in {"GET", "HEAD"}:
            return _answer(start_response, HTTPStatus.METHOD_NOT_ALLOWED, ("Allow", "GET, HEAD"))
        try:
            content = jwks()
        except AuthError as error:
            retry = str(round(error.retry_after_seconds or 1))
            return _answer(start_response, HTTPStatus.SERVICE_UNAVAILABLE, ("Retry-After", retry))
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        caching = (("Cache-Control", f"public, max-age={MAX_AGE_SECONDS}"), ("ETag", tag))
        if _matches(environ.get("HTTP_IF_NONE_MATCH", ""), tag):
            start_response(_line(HTTPStatus.NOT_MODIFIED), [*caching])
            return []
        start_response(
            _line(HTTPStatus.OK),
            [
                ("Content-Type", "application/jwk-set+json"),
                ("Content-Length", str(len(content))),
                ("X-Content-Type-Options", "nosniff"),
                *caching,
            ],
        )
        return [content] if method == "GET" else []

    return application


def _matches(condition: str, tag: str) -> bool:
    """Whether ``If-None-Match`` (RFC 9110 section 13.1.2) names this version."""
    named = {item.strip().removeprefix("W/") for item in condition.split(",")}
    return bool(named & {tag, "*"})


def _answer(
    start_response: StartResponse, status: HTTPStatus, *headers: tuple[str, str]
) -> Iterable[bytes]:
    """An answer without content, which is not to be cached."""
    start_response(
        _line(status), [("Content-Length", "0"), ("Cache-Control", "no-store"), *headers]
    )
    return []


def _line(status: HTTPStatus) -> str:
    return f"{status.value} {status.phrase}"
