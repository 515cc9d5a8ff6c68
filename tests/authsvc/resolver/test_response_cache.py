"""The response cache: a response is served again only while nothing it depends on has changed."""

from __future__ import annotations

import pytest

from authsvc.access.limits import CallerLimits
from authsvc.access.usage import Usages
from authsvc.domain.credential_requests import DEFAULT, CredentialRequest
from authsvc.domain.decision import TOUCH_FRACTION
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.provider_session import NO_PROVIDER_SESSION, session_digest
from authsvc.domain.record import Limits
from authsvc.domain.resolution import BearerCredentials, Credentials, Principal, Secret
from authsvc.domain.revocation import NotBefore
from authsvc.resolver.resolver import SessionResolver
from authsvc.stores.memory import MemoryStore
from authsvc.tokens.jwt import Issuer, JwtVerifier
from authsvc.tokens.keys import KeySet, VerificationKey
from tests.support.clock import Clock
from tests.support.tokens import ISSUER, OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

LIMITS = Limits()
KEEP = 3


class Keys:
    """An issuer's keys, which a test may withdraw."""

    failure = ""
    clock_offset_seconds = None

    def __init__(self, keys: KeySet) -> None:
        self.keys = keys
        self.known = True

    def current(self, now: float) -> KeySet:
        if not self.known:
            raise AuthError(Reason.KEYS_UNAVAILABLE)
        return self.keys

    async def renew(self, now: float) -> bool:
        return False

    async def refresh(self, now: float) -> None:
        """Nothing to do."""


class Broker:
    """Counts, and says when to ask again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.issued = 0

    async def issue(
        self,
        principal: Principal,
        *,
        token: Secret,
        resource: str,
        now: float,
        wanted: CredentialRequest = DEFAULT,
    ) -> Credentials:
        self.issued += 1
        renew_time = self._clock() + 60
        return BearerCredentials(Secret(f"{self.issued}"), "Bearer", now + 90, renew_time)


class Bench:
    """A resolver with its verifier, store and broker."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.idp = IdentityProvider(self.clock)
        key = VerificationKey(None, "HS256", self.idp.secret.encode())
        self.keys = Keys(KeySet((key,)))
        self.store = MemoryStore(unauthenticated_cap=100)
        self.broker: Broker | None = None
        self.resolver = self.made()

    def made(self) -> SessionResolver:
        return SessionResolver(
            JwtVerifier([Issuer(ISSUER, self.keys)]),
            self.store,
            self.broker,
            limits=LIMITS,
            usages=Usages(CallerLimits(), self.clock),
            clock=self.clock,
            max_cached_responses=KEEP,
        )

    async def cache(self, session_id: str, token: str, name: bytes = b"request") -> None:
        """Resolve until the response is cached."""
        resolver = self.resolver
        await resolver.resolve(session_id, token, resource=RESOURCE, create=True)
        await resolver.resolve(session_id, token, resource=RESOURCE, request_digest=name)
        assert self.is_cached(name)

    def is_cached(self, name: bytes = b"request") -> bool:
        return self.resolver.cached_response(name) is not None


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_the_same_request_gets_the_cached_response(bench: Bench) -> None:
    token = bench.idp.token(ttl_seconds=1e6)
    await bench.cache("s", token)
    response = bench.resolver.cached_response(b"request")
    assert response is not None
    assert response.resolution == await bench.resolver.resolve("s", token, resource=RESOURCE)
    assert not bench.is_cached(b"another")


async def test_each_use_of_a_cached_response_is_logged_for_debugging(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.cache("s", bench.idp.token())
    for level, count in (("INFO", 0), ("DEBUG", 1)):
        caplog.clear()
        caplog.set_level(level)
        assert bench.is_cached()
        assert caplog.messages == ["Using cached JWT auth for session s\u2026"] * count


async def test_a_response_of_a_principal_session_is_cached(bench: Bench) -> None:
    await bench.cache("", bench.idp.token())


async def test_a_response_that_wrote_is_not_cached(bench: Bench) -> None:
    await bench.resolver.resolve(
        "s", bench.idp.token(), resource=RESOURCE, create=True, request_digest=b"request"
    )
    assert not bench.is_cached()


async def test_a_response_without_an_identity_is_not_cached(bench: Bench) -> None:
    for _ in range(2):
        await bench.resolver.resolve(
            "s", "", resource=RESOURCE, create=True, request_digest=b"request"
        )
    assert not bench.is_cached()


async def test_a_revocation_of_the_session_evicts_it(bench: Bench) -> None:
    await bench.cache("s", bench.idp.token())
    await bench.resolver.revoke("s")
    assert not bench.is_cached()


@pytest.mark.parametrize("whose", ["everyone", "subject", "token", "session", "no session"])
async def test_a_not_before_evicts_it(bench: Bench, whose: str) -> None:
    sid = None if whose == "no session" else "sid"
    await bench.cache("s", bench.idp.token(jti="one", sid=sid))
    now = bench.clock.now
    named = {
        "everyone": NotBefore(now, now),
        "subject": NotBefore(now, now, ISSUER, "alice"),
        "token": NotBefore(now, now, ISSUER, "", "one"),
        "session": NotBefore(now, now, ISSUER, provider_session=session_digest(ISSUER, "sid")),
        "no session": NotBefore(now, now, ISSUER, "alice", provider_session=NO_PROVIDER_SESSION),
    }
    await bench.store.set_not_before(named[whose])
    assert not bench.is_cached()


async def test_a_not_before_of_another_subject_or_session_does_not(bench: Bench) -> None:
    await bench.cache("s", bench.idp.token(sid="sid"))
    now = bench.clock.now
    await bench.store.set_not_before(NotBefore(now, now, ISSUER, "bob"))
    for issuer, subject, session in (
        (ISSUER, "", session_digest(ISSUER, "another")),
        (ISSUER, "", session_digest("https://else.example", "sid")),
        (ISSUER, "alice", NO_PROVIDER_SESSION),
    ):
        await bench.store.set_not_before(
            NotBefore(now, now, issuer, subject, provider_session=session)
        )
    assert bench.is_cached()


async def test_a_newer_token_evicts_it_and_the_old_one_is_decided_anew(bench: Bench) -> None:
    old = bench.idp.token(roles=["reader"])
    await bench.cache("s", old)
    bench.clock.advance(1)
    await bench.resolver.resolve("s", bench.idp.token(roles=["analyst"]), resource=RESOURCE)
    assert not bench.is_cached()
    again = await bench.resolver.resolve(
        "s", old, resource=RESOURCE, request_digest=b"request"
    )  # row 11
    assert again.principal is not None
    assert again.principal.roles == ("reader",)
    assert bench.is_cached()


async def test_the_expiry_of_the_token_evicts_it(bench: Bench) -> None:
    await bench.cache("s", bench.idp.token(ttl_seconds=100))
    bench.clock.advance(129)
    assert bench.is_cached()
    bench.clock.advance(2)
    assert not bench.is_cached()


async def test_a_withdrawn_key_evicts_it(bench: Bench) -> None:
    await bench.cache("s", bench.idp.token())
    bench.keys.keys = KeySet((VerificationKey(None, "HS256", b"another secret" * 4),))
    assert not bench.is_cached()


async def test_unavailable_keys_evict_it(bench: Bench) -> None:
    await bench.cache("s", bench.idp.token())
    bench.keys.known = False
    assert not bench.is_cached()


async def test_it_is_evicted_when_the_last_use_is_due_to_be_written(bench: Bench) -> None:
    await bench.cache("s", bench.idp.token(ttl_seconds=1e6))
    due = TOUCH_FRACTION * LIMITS.authenticated_idle_seconds
    bench.clock.advance(due - 1)
    assert bench.is_cached()
    bench.clock.advance(1)
    assert not bench.is_cached()


async def test_it_is_evicted_when_credentials_are_due_to_be_renewed(bench: Bench) -> None:
    bench.broker = Broker(bench.clock)
    bench.resolver = bench.made()
    await bench.cache("s", bench.idp.token())
    issued = bench.broker.issued
    bench.clock.advance(59)
    assert bench.is_cached()
    assert bench.broker.issued == issued
    bench.clock.advance(1)
    assert not bench.is_cached()


async def test_an_unavailable_store_evicts_it(bench: Bench) -> None:
    await bench.cache("s", bench.idp.token())
    await bench.store.close()
    assert not bench.is_cached()


async def test_a_new_session_under_the_same_id_is_another(bench: Bench) -> None:
    token = bench.idp.token(ttl_seconds=1e6)
    await bench.cache("s", token)
    record = await bench.store.get("s")
    assert record is not None
    await bench.store.remove(record)
    assert not bench.is_cached()
    await bench.resolver.resolve("s", token, resource=RESOURCE, create=True)
    assert not bench.is_cached()


async def test_the_cache_is_bounded(bench: Bench) -> None:
    token = bench.idp.token()
    names = [bytes([number]) for number in range(KEEP + 1)]
    for name in names:
        await bench.cache("s", token, name)
    assert [bench.is_cached(name) for name in names] == [False, True, True, True]
    assert bench.resolver.cached_responses == KEEP


async def test_a_cached_response_names_its_resource(bench: Bench) -> None:
    token = bench.idp.token(aud=[RESOURCE, OTHER_RESOURCE])
    await bench.cache("s", token)
    response = bench.resolver.cached_response(b"request")
    assert response is not None
    assert response.resource == RESOURCE


async def test_a_cached_response_shows_no_secret(bench: Bench) -> None:
    token = bench.idp.token()
    await bench.cache("s", token)
    response = bench.resolver.cached_response(b"request")
    assert response is not None
    response.encoded = b"credentials"
    assert "credentials=" in repr(response)
    assert "b'credentials'" not in repr(response)
    assert token not in repr(response)
