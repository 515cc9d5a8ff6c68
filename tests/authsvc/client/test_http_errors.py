"""Errors of authsvc as HTTP answers: one status and one challenge for each reason."""

from __future__ import annotations

import json
from collections.abc import Callable

import flask
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from authsvc.client import AuthError, HttpError, Reason, bearer_token
from authsvc.domain.errors import GrpcStatus

METADATA = "https://api.example/.well-known/oauth-protected-resource"


@pytest.mark.parametrize("in_session", [False, True])
@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_an_answer(reason: Reason, *, in_session: bool) -> None:
    error = AuthError(reason, "of the operator alone", setting="issuers[x].audiences")
    body, status, headers = HttpError.of(error, in_session=in_session)
    problem = json.loads(body)
    assert problem["status"] == status
    assert "operator" not in body.decode() + str(headers)
    assert "issuers" not in body.decode() + str(headers)
    assert ("WWW-Authenticate" in headers) == (status == 401 or reason is Reason.TOKEN_TOO_LARGE)
    assert ("Retry-After" in headers) == (status in (429, 503))
    assert (headers["Content-Type"], headers["Cache-Control"]) == (
        "application/problem+json",
        "no-store",
    )


@pytest.mark.parametrize(
    ("reason", "in_session", "status"),
    [
        (Reason.TOKEN_EXPIRED, False, 401),
        (Reason.TOKEN_TOO_LARGE, False, 400),
        (Reason.CALLER_NOT_ALLOWED, False, 403),
        (Reason.SESSION_REVOKED, False, 401),
        (Reason.SESSION_REVOKED, True, 404),
        (Reason.SESSION_ID_INVALID, False, 400),
        (Reason.SESSION_ID_INVALID, True, 404),
        (Reason.OVERLOADED, False, 429),
        (Reason.CONFLICT, True, 503),
        (Reason.STORE_UNAVAILABLE, False, 503),
    ],
)
def test_statuses(reason: Reason, in_session: bool, status: int) -> None:
    assert HttpError.of(AuthError(reason), in_session=in_session).status == status


def test_a_limit_that_is_reached_is_named() -> None:
    error = AuthError(Reason.RATE_LIMITED, retry_after_seconds=2.5, limit="search")
    body, status, headers = HttpError.of(error)
    assert (status, headers["Retry-After"]) == (429, "3")
    assert json.loads(body) == {
        "title": "There are too many calls for the limit search; try again later.",
        "status": 429,
        "reason": "RATE_LIMITED",
        "limit": "search",
    }


def test_sessions_of_others_are_answered_as_unknown_ones() -> None:
    unknown, ended, others = (
        HttpError.of(AuthError(reason), in_session=True)
        for reason in (
            Reason.SESSION_NOT_FOUND,
            Reason.SESSION_EXPIRED,
            Reason.SESSION_SUBJECT_MISMATCH,
        )
    )
    assert tuple(unknown) == tuple(ended) == tuple(others)


def test_what_to_ask_for() -> None:
    expired = AuthError(Reason.TOKEN_EXPIRED)
    answer = HttpError.of(expired, scopes=["a", "b"], resource_metadata=METADATA)
    assert answer.headers["WWW-Authenticate"] == (
        f'Bearer resource_metadata="{METADATA}", scope="a b", error="invalid_token", '
        'error_description="The token has expired."'
    )
    assert json.loads(answer.body)["reason"] == "TOKEN_EXPIRED"

    none = HttpError.unauthenticated()
    assert (none.status, none.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "reason" not in json.loads(none.body)

    narrow = HttpError.insufficient_scope(["a"], resource_metadata=METADATA)
    assert narrow.status == 403
    assert 'error="insufficient_scope"' in narrow.headers["WWW-Authenticate"]


def test_when_to_try_again() -> None:
    for seconds, header in ((None, "1"), (0.2, "1"), (7.1, "8")):
        error = AuthError(Reason.OVERLOADED, retry_after_seconds=seconds)
        assert HttpError.of(error).headers["Retry-After"] == header


@pytest.mark.parametrize("make", [HttpError.unauthenticated, HttpError.insufficient_scope])
def test_one_string_is_not_several_scopes(make: Callable[..., HttpError]) -> None:
    with pytest.raises(TypeError, match="scopes"):
        make(scopes="read")


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, ""),
        ("", ""),
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic abc", ""),
        ("Bearer", ""),
    ],
)
def test_the_token_of_a_header(header: str | None, token: str) -> None:
    assert bearer_token(header) == token


def test_starlette_and_flask_take_it_as_it_is() -> None:
    def refuse(_: object = None) -> str:
        raise AuthError(Reason.TOKEN_EXPIRED)

    async def answer(_: Request, error: Exception) -> Response:
        assert isinstance(error, AuthError)
        return Response(*HttpError.of(error))

    starlette = Starlette(
        routes=[Route("/", refuse)],
        exception_handlers={AuthError: answer},
    )
    of_starlette = TestClient(starlette).get("/")

    app = flask.Flask("example")
    app.add_url_rule("/", view_func=refuse)
    app.register_error_handler(AuthError, lambda error: tuple(HttpError.of(error)))
    of_flask = app.test_client().get("/")

    expected = HttpError.of(AuthError(Reason.TOKEN_EXPIRED))
    for found, body in ((of_starlette, of_starlette.content), (of_flask, of_flask.data)):
        assert (found.status_code, body) == (401, expected.body)
        assert found.headers["WWW-Authenticate"] == expected.headers["WWW-Authenticate"]
        assert found.headers["Content-Type"] == "application/problem+json"


def test_it_is_raised_where_there_is_no_token() -> None:
    denied = HttpError.unauthenticated()
    with pytest.raises(HttpError, match="401") as raised:
        raise denied
    assert HttpError.of(raised.value) is denied


def test_every_status_is_mapped() -> None:
    assert {it.status for it in Reason} == set(GrpcStatus)
