"""The questions about requests to the resolver."""

from __future__ import annotations

from typing import Any

import pytest

from authsvc.domain.rates import ONE_CALL, RECHECK, CallCounts, Rate, RateLimit
from authsvc.domain.resolution import Resolution
from authsvc.http_auth.anonymous_bodies import AnonymousBodies
from authsvc.http_auth.counting import CountingOptions
from authsvc.http_auth.headers import Headers
from authsvc.http_auth.refusals import Refusal
from authsvc.http_auth.request_headers import RequestHeaders
from authsvc.http_auth.resolving import RequestResolver
from authsvc.http_auth.sessions import Sessions
from mcp_adapter import Requirement
from tests.mcp_adapter.harness import LEGACY, MODERN, RESOURCE, MemoryResolver, principal

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


@pytest.mark.parametrize("needed", [None, Requirement()])
@pytest.mark.parametrize("now", ["eve", ""])
async def test_a_caller_whose_token_becomes_another_ones_loses_its_stream(
    now: str, needed: Requirement | None
) -> None:
    class Changed(MemoryResolver):
        async def resolve(self, session_id: str, token: str, **options: Any) -> Resolution:  # noqa: ANN401 - of the fake
            return Resolution(principal=principal(now) if now else None)

    resolving = RequestResolver(Changed(), RESOURCE, sessions=Sessions.MINTED)
    admitted = Resolution(principal=principal("alice"))
    with pytest.raises(Refusal):
        await resolving.check(request_of("alice-1"), needed, admitted, "")


LIMIT = RateLimit("search", Rate(1.0, 100.0))


class Recording(MemoryResolver):
    """Keeps what requests count as."""

    def __init__(self) -> None:
        super().__init__(tokens={"alice-1": principal("alice")})
        self.counts: list[dict[str, Any]] = []

    async def resolve(self, session_id: str, token: str, **options: Any) -> Resolution:  # noqa: ANN401
        self._keep(options)
        return await super().resolve(session_id, token, **options)

    async def create(self, token: str, **options: Any) -> Resolution:  # noqa: ANN401
        self._keep(options)
        return await super().create(token, **options)

    def _keep(self, options: dict[str, Any]) -> None:
        names = "rate_limits", "calls", "recheck"
        self.counts.append({name: it for name, it in options.items() if name in names})


@pytest.mark.parametrize("sessions", Sessions)
async def test_the_resolver_is_given_what_a_request_counts_as(sessions: Sessions) -> None:
    resolver = Recording()
    resolving = RequestResolver(resolver, RESOURCE, sessions=sessions)
    for version, session_id in ((MODERN, ""), (LEGACY, "s")):
        request = RequestHeaders(Headers(), "alice-1", session_id, version)
        resolver.sessions["s"] = None
        for counts in (ONE_CALL, CallCounts((LIMIT,)), CallCounts((), 3), RECHECK):
            await resolving.identify(request, None, opens_session=False, counts=counts)
        assert resolver.counts == [{}, {"rate_limits": (LIMIT,)}, {"calls": 3}, {"recheck": True}]
        resolver.counts.clear()
    await resolving.identify(request, None, opens_session=True, counts=CallCounts((LIMIT,)))
    assert resolver.counts == [{"rate_limits": (LIMIT,)}]


async def test_what_was_counted_is_not_counted_again() -> None:
    resolver = Recording()
    resolving = RequestResolver(resolver, RESOURCE, sessions=Sessions.ANNOUNCED)
    request = request_of("alice-1")
    needed = Requirement(rate_limits=(LIMIT,))
    await resolving.check(request, needed, Resolution(), "")
    await resolving.adopt("minted", request)
    allowance = AnonymousBodies(resolving, max_bytes=10).allowance(request)
    await allowance.check_bytes(11)
    assert resolver.counts == [{"recheck": True}] * 3


class Own:
    """A resolver of a user's, which has no limits."""

    async def resolve(
        self, session_id: str, token: str, *, resource: str, create: bool = False
    ) -> Resolution:
        return Resolution()

    async def create(self, token: str, *, resource: str) -> Resolution:
        return Resolution()

    async def revoke(self, session_id: str) -> None:
        """Nothing to do."""


async def test_a_resolver_without_limits_goes_on_working() -> None:
    resolving = RequestResolver(Own(), RESOURCE, sessions=Sessions.MINTED)
    request = request_of("alice-1")
    await resolving.check(request, None, Resolution(), "")
    for counts in (ONE_CALL, CallCounts((), 3), RECHECK):
        await resolving.identify(request, None, opens_session=False, counts=counts)


@pytest.mark.parametrize("opens_session", [False, True])
async def test_limits_that_a_resolver_does_not_take_are_a_fault_of_the_server(
    caplog: pytest.LogCaptureFixture, opens_session: bool
) -> None:
    resolving = RequestResolver(Own(), RESOURCE, sessions=Sessions.MINTED)
    request = RequestHeaders(Headers(), "alice-1", "s", LEGACY)
    with pytest.raises(Refusal) as caught:
        await resolving.identify(
            request, None, opens_session=opens_session, counts=CallCounts((LIMIT,))
        )
    assert caught.value.status == 500
    assert "the requirement has rate_limits, which the resolver does not take" in caplog.text


class Unsigned(Own):
    """One whose methods have no signature that Python knows."""

    resolve = type("Foreign", (), {"__signature__": "none", "__call__": Own.resolve})()


async def test_a_resolver_without_a_signature_is_given_nothing() -> None:
    assert CountingOptions(Unsigned()).of_resolve(RECHECK) == {}
    assert CountingOptions(Own()).of_resolve(RECHECK) == {}
    assert CountingOptions(Recording()).of_resolve(RECHECK) == {"recheck": True}
