"""Checks of tokens within what each caller may have checked, and audited."""

from __future__ import annotations

import pytest

from authsvc.access.limits import CallerLimits
from authsvc.access.usage import Usages
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.record import Limits
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
        return resolver.seconds_until_check("", token, resource=RESOURCE, caller=CALLER)

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
