"""The questions about requests to the resolver."""

from __future__ import annotations

import pytest

from authsvc.domain.resolution import Resolution
from authsvc.http_auth.headers import Headers
from authsvc.http_auth.refusals import Refusal
from authsvc.http_auth.request_headers import RequestHeaders
from authsvc.http_auth.resolving import RequestResolver
from authsvc.http_auth.sessions import Sessions
from mcp_adapter import Requirement
from tests.mcp_adapter.harness import MODERN, RESOURCE, MemoryResolver, principal

pytestmark = pytest.mark.anyio


@pytest.fixture
def resolver() -> MemoryResolver:
    return MemoryResolver(tokens={"alice-1": principal("alice")})


def request_of(token: str) -> RequestHeaders:
    return RequestHeaders(Headers(), token, "", MODERN)


async def test_a_caller_with_neither_session_nor_token_keeps_its_stream_unasked(
    resolver: MemoryResolver,
) -> None:
    resolving = RequestResolver(resolver, RESOURCE, sessions=Sessions.MINTED)
    await resolving.check(request_of(""), None, Resolution(), "")
    assert resolver.calls == []


async def test_a_caller_with_a_token_keeps_its_stream_for_as_long_as_it_is_valid(
    resolver: MemoryResolver,
) -> None:
    resolving = RequestResolver(resolver, RESOURCE, sessions=Sessions.MINTED)
    request = request_of("alice-1")
    await resolving.check(request, Requirement(), Resolution(), "")
    del resolver.tokens["alice-1"]
    with pytest.raises(Refusal) as caught:
        await resolving.check(request, Requirement(), Resolution(), "")
    assert caught.value.status == 401
    assert resolver.calls == [("resolve", "", "alice-1")] * 2
