"""The gate's questions to the resolver."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from authsvc.domain.resolution import Resolution
from mcp_adapter import Requirement
from mcp_adapter.gate.refusals import Refusal
from mcp_adapter.gate.request_headers import RequestHeaders
from mcp_adapter.gate.resolving import RequestResolver
from tests.mcp_adapter.harness import MODERN, RESOURCE, MemoryResolver

pytestmark = pytest.mark.anyio


def request_of(token: str) -> RequestHeaders:
    return RequestHeaders(Headers(), token, "", MODERN)


async def test_a_caller_with_neither_session_nor_token_keeps_its_stream_unasked(
    resolver: MemoryResolver,
) -> None:
    resolving = RequestResolver(resolver, RESOURCE, stateful=False)
    await resolving.check(request_of(""), None, Resolution(), "")
    assert resolver.calls == []


async def test_a_caller_with_a_token_keeps_its_stream_for_as_long_as_it_is_valid(
    resolver: MemoryResolver,
) -> None:
    resolving = RequestResolver(resolver, RESOURCE, stateful=False)
    request = request_of("alice-1")
    await resolving.check(request, Requirement(), Resolution(), "")
    del resolver.tokens["alice-1"]
    with pytest.raises(Refusal) as caught:
        await resolving.check(request, Requirement(), Resolution(), "")
    assert caught.value.status == 401
    assert resolver.calls == [("resolve", "", "alice-1")] * 2
