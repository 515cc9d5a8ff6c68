"""Tools get the caller of a request, or an error without one."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request

from authsvc.domain.resolution import Resolution
from mcp_adapter import caller, current_caller
from tests.mcp_adapter.harness import principal


def request(**state: object) -> Request:
    return Request({"type": "http", "headers": [], "state": state})


def test_of_a_request_that_came_through_the_gate() -> None:
    alice = principal("alice")
    resolution = Resolution(principal=alice)

    assert current_caller(request(resolution=resolution)) is resolution
    assert caller(request(resolution=resolution)) == alice


def test_a_request_without_a_token_has_no_caller() -> None:
    anonymous = request(resolution=Resolution())

    assert current_caller(anonymous).principal is None
    with pytest.raises(LookupError, match="no token"):
        caller(anonymous)


@pytest.mark.parametrize("outside", [None, request(), request(resolution="alice")])
def test_a_request_from_elsewhere_has_no_identity(outside: Request | None) -> None:
    with pytest.raises(LookupError, match="SessionGate"):
        current_caller(outside)
    with pytest.raises(LookupError, match="SessionGate"):
        caller(outside)


def test_what_is_no_request_is_named() -> None:
    context: Any = object()
    for ask in (caller, current_caller):
        with pytest.raises(TypeError, match=r"not object: .* ctx\.request_context\.request"):
            ask(context)
