"""Checks of tokens within what each caller may have checked, and audited."""

from __future__ import annotations

import asyncio

import pytest

from authsvc.access.limits import CallerLimits
from authsvc.access.usage import Usages
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.record import Limits
from authsvc.domain.tokens import BearerToken, VerifiedToken
from authsvc.resolver.fairness import AT_ONCE
from authsvc.resolver.request import Request, bearer
from authsvc.resolver.resolver import SessionResolver
from authsvc.stores.memory import MemoryStore
from authsvc.tokens.jwt import Issuer, JwtVerifier
from authsvc.tokens.keys import KeySet, VerificationKey
from tests.support.clock import Clock
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

CALLER = "one"
LIMITS = Limits()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def idp(clock: Clock) -> IdentityProvider:
    return IdentityProvider(clock)


@pytest.fixture
def usages(clock: Clock) -> Usages:
    """One rejected token is too many, and stays so."""
    limits = CallerLimits(rejected_tokens_per_second=1e-6, rejected_tokens_burst=1)
    return Usages(limits, clock)


@pytest.fixture
def resolver(clock: Clock, idp: IdentityProvider, usages: Usages) -> SessionResolver:
    key = VerificationKey(None, "HS256", idp.secret.encode())
    return SessionResolver(
        JwtVerifier([Issuer(ISSUER, KeySet((key,)))]),
        MemoryStore(unauthenticated_cap=100),
        None,
        limits=LIMITS,
        usages=usages,
        clock=clock,
    )


async def reason_of(resolver: SessionResolver, token: str) -> Reason:
    with pytest.raises(AuthError) as caught:
        await resolver.resolve("", token, resource=RESOURCE, caller=CALLER)
    return caught.value.reason


def audited(caplog: pytest.LogCaptureFixture) -> list[str]:
    records = [record for record in caplog.records if record.name == "authsvc.security"]
    return [str(record.__dict__["event_type"]) for record in records]


async def test_without_a_budget_only_unknown_tokens_wait(
    resolver: SessionResolver, idp: IdentityProvider, clock: Clock
) -> None:
    def wait(token: str) -> float:
        return resolver.seconds_until_check(Request(CALLER, "", bearer(token), RESOURCE))

    known, expired = idp.token(), idp.token("bob", ttl_seconds=100)
    for token in (known, expired):
        await resolver.resolve("", token, resource=RESOURCE, caller=CALLER)
    assert wait(idp.forged()) == 0.0
    assert await reason_of(resolver, idp.forged()) is Reason.TOKEN_SIGNATURE_INVALID
    clock.advance(200)
    assert wait(idp.forged()) > 0.0
    assert wait(known) == 0.0
    # It is known to have expired, which is the reason that its caller is to see.
    assert wait(expired) == 0.0
    assert await reason_of(resolver, expired) is Reason.TOKEN_EXPIRED
    assert wait("") == 0.0


@pytest.mark.parametrize("may_audit", [True, False])
async def test_a_token_older_than_not_befores_is_rejected_whether_audited_or_not(
    resolver: SessionResolver,
    idp: IdentityProvider,
    clock: Clock,
    usages: Usages,
    caplog: pytest.LogCaptureFixture,
    *,
    may_audit: bool,
) -> None:
    token = idp.token(ttl_seconds=2 * LIMITS.not_befores_kept_seconds)
    clock.advance(LIMITS.not_befores_kept_seconds + 1)
    while not may_audit and usages.of(CALLER).may_audit():
        """Use up what may be audited."""
    caplog.clear()
    assert await reason_of(resolver, token) is Reason.TOKEN_EXPIRED
    assert audited(caplog) == ["TOKEN_REJECTED"] * may_audit


@pytest.mark.parametrize("may_audit", [True, False])
async def test_another_subject_is_rejected_whether_audited_or_not(
    resolver: SessionResolver,
    idp: IdentityProvider,
    usages: Usages,
    caplog: pytest.LogCaptureFixture,
    *,
    may_audit: bool,
) -> None:
    await resolver.resolve("s", idp.token(), resource=RESOURCE, create=True, caller=CALLER)
    while not may_audit and usages.of(CALLER).may_audit():
        """Use up what may be audited."""
    caplog.clear()
    with pytest.raises(AuthError) as caught:
        await resolver.resolve("s", idp.token("bob"), resource=RESOURCE, caller=CALLER)
    assert caught.value.reason is Reason.SESSION_SUBJECT_MISMATCH
    assert audited(caplog) == ["SUBJECT_MISMATCH"] * may_audit


@pytest.fixture
def ample(clock: Clock, idp: IdentityProvider) -> tuple[SessionResolver, JwtVerifier]:
    """A resolver that checks as many tokens as it is given, and its verifier."""
    key = VerificationKey(None, "HS256", idp.secret.encode())
    verifier = JwtVerifier([Issuer(ISSUER, KeySet((key,)))])
    store, usages = MemoryStore(unauthenticated_cap=100), Usages(CallerLimits(), clock)
    return (
        SessionResolver(verifier, store, None, limits=LIMITS, usages=usages, clock=clock),
        verifier,
    )


def rejected_now(resolver: SessionResolver, session_id: str, token: str) -> Reason | None:
    error = resolver.rejection_now(Request(CALLER, session_id, bearer(token), RESOURCE))
    return None if error is None else error.reason


async def test_an_invalid_token_is_rejected_without_waiting(
    ample: tuple[SessionResolver, JwtVerifier],
    idp: IdentityProvider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    resolver, _ = ample
    await resolver.resolve("s", idp.token(), resource=RESOURCE, create=True)
    caplog.clear()
    for session_id in ("s", ""):
        assert rejected_now(resolver, session_id, idp.forged()) is Reason.TOKEN_SIGNATURE_INVALID
    assert audited(caplog) == ["TOKEN_REJECTED"] * 2
    assert rejected_now(resolver, "s", "") is None


async def test_a_valid_token_is_verified_once(
    ample: tuple[SessionResolver, JwtVerifier], idp: IdentityProvider, clock: Clock
) -> None:
    resolver, verifier = ample
    await resolver.resolve("s", idp.token(), resource=RESOURCE, create=True)
    clock.advance(1)
    newer, before = idp.token(), verifier.signature_checks
    for _ in range(2):
        assert rejected_now(resolver, "s", newer) is None
    await resolver.resolve("s", newer, resource=RESOURCE)
    assert verifier.signature_checks == before + 1


async def test_a_session_with_a_reason_of_its_own_gives_it(
    ample: tuple[SessionResolver, JwtVerifier], idp: IdentityProvider
) -> None:
    resolver, verifier = ample
    first = await resolver.resolve("", idp.token(), resource=RESOURCE)
    await resolver.resolve("ended", idp.token(), resource=RESOURCE, create=True)
    await resolver.revoke("ended")
    assert first.session is not None
    before = verifier.signature_checks
    for session_id in ("unknown", "ended", first.session.id):
        assert rejected_now(resolver, session_id, idp.forged()) is None
    assert verifier.signature_checks == before


async def test_the_current_token_is_left_to_the_table(
    ample: tuple[SessionResolver, JwtVerifier], idp: IdentityProvider, clock: Clock
) -> None:
    """Row 9, and not row 7, once it has expired."""
    resolver, _ = ample
    current, other = idp.token(ttl_seconds=100), idp.token("bob", ttl_seconds=100)
    for session_id, token in (("s", current), ("t", other)):
        await resolver.resolve(session_id, token, resource=RESOURCE, create=True)
    clock.advance(200)
    assert rejected_now(resolver, "s", current) is None
    assert rejected_now(resolver, "s", other) is Reason.TOKEN_EXPIRED


async def test_a_pass_of_the_loop_checks_a_bounded_number_at_once(
    ample: tuple[SessionResolver, JwtVerifier], idp: IdentityProvider
) -> None:
    resolver, verifier = ample
    for _ in range(2):
        before = verifier.signature_checks
        reasons = [rejected_now(resolver, "", idp.forged()) for _ in range(AT_ONCE + 2)]
        assert reasons == [Reason.TOKEN_SIGNATURE_INVALID] * AT_ONCE + [None] * 2
        assert verifier.signature_checks == before + AT_ONCE
        await asyncio.sleep(0)


async def test_a_token_whose_check_has_to_wait_is_left_to_resolve(
    idp: IdentityProvider, clock: Clock
) -> None:
    """What was begun is closed, and takes nothing of the budget."""

    class Waiting(JwtVerifier):
        async def verify(self, token: BearerToken, *, resource: str, now: float) -> VerifiedToken:
            await asyncio.sleep(0)
            return await super().verify(token, resource=resource, now=now)

    key = VerificationKey(None, "HS256", idp.secret.encode())
    limits = CallerLimits(rejected_tokens_per_second=1e-6, rejected_tokens_burst=1)
    resolver = SessionResolver(
        Waiting([Issuer(ISSUER, KeySet((key,)))]),
        MemoryStore(unauthenticated_cap=100),
        None,
        limits=LIMITS,
        usages=Usages(limits, clock),
        clock=clock,
    )
    forged = idp.forged()
    assert rejected_now(resolver, "", forged) is None
    assert await reason_of(resolver, forged) is Reason.TOKEN_SIGNATURE_INVALID


async def test_no_issuer_is_asked_about_a_token_twice(idp: IdentityProvider, clock: Clock) -> None:
    class Introspecting(JwtVerifier):
        def needs_keys_alone(self, token: BearerToken) -> bool:
            return False

    key = VerificationKey(None, "HS256", idp.secret.encode())
    verifier = Introspecting([Issuer(ISSUER, KeySet((key,)))])
    store, usages = MemoryStore(unauthenticated_cap=100), Usages(CallerLimits(), clock)
    resolver = SessionResolver(verifier, store, None, limits=LIMITS, usages=usages, clock=clock)
    assert rejected_now(resolver, "", idp.forged()) is None
    assert verifier.signature_checks == 0
