"""The resolver over a store whose cache is behind, or whose writes are not confirmed yet."""

from __future__ import annotations

from typing import Any, cast

import pytest

from authsvc.access.limits import CallerLimits
from authsvc.access.usage import Usages
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import EventType
from authsvc.domain.record import Limits, Record
from authsvc.domain.resolution import Outcome
from authsvc.resolver.resolver import MAX_ATTEMPTS, SessionResolver
from authsvc.stores import SessionStore
from authsvc.stores.memory import MemoryStore
from authsvc.tokens.jwt import Issuer, JwtVerifier
from authsvc.tokens.keys import KeySet, VerificationKey
from tests.support.clock import Clock
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

LIMITS = Limits()


class Behind:
    """A store whose cache has a session as it was when ``freeze`` was called."""

    def __init__(self) -> None:
        self._store = MemoryStore(unauthenticated_cap=100)
        self._cached: dict[str, Record] = {}
        self.asked = 0
        self.unsafe = False
        self.loses = False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the store has
        return getattr(self._store, name)

    async def freeze(self, session_id: str) -> None:
        record = await self._store.get(session_id)
        assert record is not None
        self._cached[session_id] = record

    def cached_record(self, session_id: str, consistency_token: str = "") -> Record | None:
        return self._cached.get(session_id)

    async def get(self, session_id: str) -> Record | None:
        self.asked += 1
        return await self._store.get(session_id)

    async def put(self, record: Record, event: EventType) -> str | None:
        return None if self.loses else await self._store.put(record, event)

    async def confirm(self, record: Record) -> None:
        if self.unsafe:
            raise AuthError(Reason.STORE_UNAVAILABLE, "confirmed by 0 of 1 replicas")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def idp(clock: Clock) -> IdentityProvider:
    return IdentityProvider(clock)


@pytest.fixture
def store() -> Behind:
    return Behind()


@pytest.fixture
def resolver(store: Behind, clock: Clock, idp: IdentityProvider) -> SessionResolver:
    key = VerificationKey(None, "HS256", idp.secret.encode())
    return SessionResolver(
        JwtVerifier([Issuer(ISSUER, KeySet((key,)))]),
        cast("SessionStore", store),
        None,
        limits=LIMITS,
        usages=Usages(CallerLimits(), clock),
        clock=clock,
    )


async def test_a_request_that_changes_nothing_is_answered_from_the_cache(
    resolver: SessionResolver, store: Behind, idp: IdentityProvider
) -> None:
    token = idp.token()
    await resolver.resolve("s", token, resource=RESOURCE, create=True)
    await store.freeze("s")
    store.asked = 0
    answer = await resolver.resolve("s", token, resource=RESOURCE)
    assert answer.outcome is Outcome.REUSED
    anonymous = await resolver.resolve("s", "", resource=RESOURCE)
    assert anonymous.principal is None
    assert store.asked == 0


async def test_a_cached_record_never_rejects(
    resolver: SessionResolver, store: Behind, idp: IdentityProvider, clock: Clock
) -> None:
    token = idp.token(ttl_seconds=1e6)
    await resolver.resolve("s", token, resource=RESOURCE, create=True)
    await store.freeze("s")
    clock.advance(LIMITS.authenticated_idle_seconds - 1)
    await resolver.resolve("s", token, resource=RESOURCE)  # used, which the cache does not have
    clock.advance(2)
    answer = await resolver.resolve("s", token, resource=RESOURCE)
    assert answer.outcome is Outcome.REUSED


async def test_an_invalid_token_needs_no_store_call(
    resolver: SessionResolver, store: Behind, idp: IdentityProvider, clock: Clock
) -> None:
    token = idp.token(ttl_seconds=100)
    await resolver.resolve("s", token, resource=RESOURCE, create=True)
    await store.freeze("s")
    store.asked = 0
    clock.advance(200)
    for bad, why in ((token, Reason.TOKEN_EXPIRED), ("x.y.z", Reason.TOKEN_MALFORMED)):
        with pytest.raises(AuthError) as caught:
            await resolver.resolve("s", bad, resource=RESOURCE)
        assert caught.value.reason is why
    assert store.asked == 0


async def test_a_cached_record_never_admits_another_subject(
    resolver: SessionResolver, store: Behind, idp: IdentityProvider
) -> None:
    await resolver.resolve("s", "", resource=RESOURCE, create=True)
    await store.freeze("s")  # unauthenticated, in the cache
    await resolver.resolve("s", idp.token("alice"), resource=RESOURCE)
    with pytest.raises(AuthError) as caught:
        await resolver.resolve("s", idp.token("bob"), resource=RESOURCE)
    assert caught.value.reason is Reason.SESSION_SUBJECT_MISMATCH


async def test_a_change_is_made_to_what_the_store_has(
    resolver: SessionResolver, store: Behind, idp: IdentityProvider, clock: Clock
) -> None:
    await resolver.resolve("s", idp.token(), resource=RESOURCE, create=True)
    await store.freeze("s")
    for revision in (2, 3):
        clock.advance(1)
        answer = await resolver.resolve("s", idp.token(), resource=RESOURCE)
        assert answer.outcome is Outcome.REAUTHENTICATED
        assert answer.session is not None
        assert answer.session.revision == revision


async def test_a_change_of_a_principal_session_is_made_to_what_the_store_has(
    resolver: SessionResolver, store: Behind, idp: IdentityProvider, clock: Clock
) -> None:
    first = await resolver.resolve("", idp.token(), resource=RESOURCE)
    assert first.session is not None
    await store.freeze(first.session.id)
    for revision in (2, 3):
        clock.advance(1)
        answer = await resolver.resolve("", idp.token(), resource=RESOURCE)
        assert answer.session is not None
        assert answer.session.revision == revision


async def test_a_newer_token_is_written_without_a_read(
    resolver: SessionResolver, store: Behind, idp: IdentityProvider, clock: Clock
) -> None:
    """The compare-and-set says whether the cached record is the one that is stored."""
    await resolver.resolve("s", idp.token(), resource=RESOURCE, create=True)
    await store.freeze("s")
    store.asked = 0
    clock.advance(1)
    answer = await resolver.resolve("s", idp.token(), resource=RESOURCE)
    assert answer.outcome is Outcome.REAUTHENTICATED
    assert store.asked == 0


async def test_a_newer_token_does_not_renew_a_session_that_was_revoked_elsewhere(
    resolver: SessionResolver, store: Behind, idp: IdentityProvider, clock: Clock
) -> None:
    await resolver.resolve("s", idp.token(), resource=RESOURCE, create=True)
    await store.freeze("s")  # the cache does not know of the revocation
    await resolver.revoke("s")
    clock.advance(1)
    with pytest.raises(AuthError) as caught:
        await resolver.resolve("s", idp.token(), resource=RESOURCE)
    assert caught.value.reason is Reason.SESSION_REVOKED


async def test_a_repeated_revocation_is_confirmed(
    resolver: SessionResolver, store: Behind, idp: IdentityProvider
) -> None:
    await resolver.resolve("s", idp.token(), resource=RESOURCE, create=True)
    await resolver.revoke("s")
    await resolver.revoke("s")
    store.unsafe = True
    with pytest.raises(AuthError) as caught:
        await resolver.revoke("s")
    assert caught.value.reason is Reason.STORE_UNAVAILABLE


async def test_a_repeated_creation_is_confirmed(
    resolver: SessionResolver, store: Behind, idp: IdentityProvider
) -> None:
    token = idp.token()
    await resolver.resolve("s", token, resource=RESOURCE, create=True)
    store.unsafe = True
    with pytest.raises(AuthError) as caught:
        await resolver.resolve("s", token, resource=RESOURCE, create=True)
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    await resolver.resolve("s", token, resource=RESOURCE)  # asks for nothing new


@pytest.mark.parametrize("session_id", ["s", ""])
async def test_an_update_that_is_always_lost_is_a_conflict(
    resolver: SessionResolver, store: Behind, idp: IdentityProvider, session_id: str
) -> None:
    token = idp.token()
    store.loses = True
    with pytest.raises(AuthError) as caught:
        await resolver.resolve(session_id, token, resource=RESOURCE, create=True)
    assert caught.value.reason is Reason.CONFLICT
    assert caught.value.retry_after_seconds == 1.0
    assert store.asked == MAX_ATTEMPTS
    store.loses = False
    await resolver.resolve("s", token, resource=RESOURCE, create=True)
    store.loses = True
    with pytest.raises(AuthError) as caught:
        await resolver.revoke("s")
    assert caught.value.reason is Reason.CONFLICT
