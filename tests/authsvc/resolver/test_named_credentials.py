"""Credentials by name at the resolver: what a broker is asked, and which responses are cached."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest

from authsvc.access.limits import CallerLimits
from authsvc.access.usage import Usages
from authsvc.common.rarely import Rarely
from authsvc.credentials.cache import CredentialCache
from authsvc.domain.credential_requests import DEFAULT, CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.record import Limits
from authsvc.domain.resolution import BearerCredentials, Credentials, Principal, Resolution, Secret
from authsvc.domain.revocation import NotBefore
from authsvc.resolver import log_lines
from authsvc.resolver.resolver import SessionResolver
from authsvc.resolver.response_cache import MAX_REJECTED_TOKENS
from authsvc.rpc.errors import encoded_status_of
from authsvc.stores.memory import MemoryStore
from authsvc.tokens.jwt import Issuer, JwtVerifier
from authsvc.tokens.keys import KeySet, VerificationKey
from tests.support.clock import START, Clock
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

ONE = (CredentialRequest("one"),)
BOTH = (CredentialRequest("one"), CredentialRequest("two"))


@dataclass
class Broker:
    """Issues a token of its own to each name and subject; ``versions`` count up to renew one."""

    asked: list[tuple[str, str]] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)
    errors: dict[str, Reason] = field(default_factory=dict)
    lifetimes: dict[str, float] = field(default_factory=dict)

    async def issue(
        self,
        principal: Principal,
        *,
        token: Secret,
        resource: str,
        now: float,
        wanted: CredentialRequest = DEFAULT,
    ) -> Credentials | None:
        name = wanted.name
        self.asked.append((name, principal.subject))
        if name in self.errors:
            raise AuthError(self.errors[name], "for the log")
        if name == "none":
            return None
        renew_time = now + self.lifetimes.get(name, 500)
        secret = Secret(self.token(name, principal.subject))
        return BearerCredentials(secret, "Bearer", now + 550, renew_time)

    def token(self, name: str, subject: str) -> str:
        return f"{name} of {subject}, {self.versions[name]}"

    def taken(self) -> list[tuple[str, str]]:
        """What was asked since the last time."""
        asked, self.asked = self.asked, []
        return asked


class Bench:
    """A resolver with its broker, store and clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.idp = IdentityProvider(self.clock)
        self.broker = Broker()
        self.store = MemoryStore(unauthenticated_cap=100)
        key = VerificationKey(None, "HS256", self.idp.secret.encode())
        self.resolver = SessionResolver(
            JwtVerifier([Issuer(ISSUER, KeySet((key,)))]),
            self.store,
            self.broker,
            limits=Limits(),
            usages=Usages(CallerLimits(), self.clock),
            clock=self.clock,
        )

    async def ask(
        self,
        token: str,
        selection: tuple[CredentialRequest, ...] | None,
        *,
        session: str = "s",
        digest: bytes = b"",
    ) -> Resolution:
        return await self.resolver.resolve(
            session,
            token,
            resource=RESOURCE,
            create=True,
            request_digest=digest,
            credentials=selection,
        )

    async def cached(
        self, token: str, selection: tuple[CredentialRequest, ...], digest: bytes
    ) -> Resolution | None:
        """The response in the cache, after it was decided twice: the first writes."""
        for _ in range(2):
            await self.ask(token, selection, digest=digest)
        return self.in_cache(digest)

    def in_cache(self, digest: bytes) -> Resolution | None:
        found = self.resolver.cached_response(digest)
        return None if found is None else found.resolution


@pytest.fixture
def bench() -> Bench:
    return Bench()


def issued(resolution: Resolution, name: str) -> str:
    found = resolution.credentials_of(name)
    assert isinstance(found, BearerCredentials)
    return found.access_token.reveal()


async def test_a_broker_is_asked_for_what_the_request_names_alone(bench: Bench) -> None:
    token = bench.idp.token("alice")
    for session in ("s", ""):
        resolution = await bench.ask(token, (), session=session)
        assert resolution.principal is not None
        assert (resolution.credentials, resolution.named_credentials) == (None, {})
        assert bench.broker.taken() == []
        resolution = await bench.ask(token, BOTH, session=session)
        assert resolution.credentials is None
        assert [issued(resolution, it.name) for it in BOTH] == [
            "one of alice, 0",
            "two of alice, 0",
        ]
        assert bench.broker.taken() == [("one", "alice"), ("two", "alice")]
        resolution = await bench.ask(token, None, session=session)
        assert isinstance(resolution.credentials, BearerCredentials)
        assert resolution.named_credentials == {}
        assert bench.broker.taken() == [("", "alice")]


async def test_a_created_session_has_what_its_request_names(bench: Bench) -> None:
    token = bench.idp.token("alice")
    resolution = await bench.resolver.create(token, resource=RESOURCE, credentials=())
    assert (resolution.credentials, resolution.named_credentials) == (None, {})
    resolution = await bench.resolver.create(token, resource=RESOURCE, credentials=BOTH)
    assert list(resolution.named_credentials) == ["one", "two"]
    assert bench.broker.taken() == [("one", "alice"), ("two", "alice")]


async def test_nothing_is_issued_without_a_token(bench: Bench) -> None:
    assert (await bench.ask("", BOTH)).named_credentials == {}
    assert (await bench.ask("", BOTH, session="")).named_credentials == {}
    resolution = await bench.resolver.create("", resource=RESOURCE, credentials=BOTH)
    assert resolution.named_credentials == {}
    assert bench.broker.taken() == []


async def test_a_rejected_request_gets_none(bench: Bench) -> None:
    alice = bench.idp.token("alice", jti="one")
    await bench.ask(alice, ())
    with pytest.raises(AuthError) as caught:
        await bench.ask(bench.idp.token("bob"), BOTH)
    assert caught.value.reason is Reason.SESSION_SUBJECT_MISMATCH
    now = bench.clock.now
    await bench.store.set_not_before(NotBefore(now, now, ISSUER, "", "one"))
    with pytest.raises(AuthError) as caught:
        await bench.ask(alice, BOTH)
    assert caught.value.reason is Reason.TOKEN_REVOKED
    assert bench.broker.taken() == []


async def test_each_request_of_a_session_gets_what_its_own_token_gives(bench: Bench) -> None:
    """Rows 8 and 11: two tokens of one subject, one after the other on one session."""
    await bench.ask(bench.idp.token("alice"), ONE)
    for subject, session in (("alice", "s"), ("bob", "t"), ("alice", "s"), ("bob", "t")):
        bench.clock.advance(1)
        resolution = await bench.ask(bench.idp.token(subject), ONE, session=session)
        assert issued(resolution, "one") == f"one of {subject}, 0"


async def test_a_name_without_credentials_is_missing(bench: Bench) -> None:
    selection = (CredentialRequest("none"), *ONE)
    resolution = await bench.ask(bench.idp.token(), selection)
    assert list(resolution.named_credentials) == ["one"]
    assert resolution.credentials_of("none") is None


async def test_it_is_cached_until_the_first_of_its_credentials_is_renewed(bench: Bench) -> None:
    bench.broker.lifetimes["two"] = 60
    cached = await bench.cached(bench.idp.token(), BOTH, b"both")
    assert cached is not None
    assert list(cached.named_credentials) == ["one", "two"]
    bench.clock.advance(59)
    assert bench.in_cache(b"both") is cached
    bench.clock.advance(1)
    assert bench.in_cache(b"both") is None


async def test_a_response_with_an_error_is_not_cached(bench: Bench) -> None:
    bench.broker.errors["two"] = Reason.CREDENTIALS_UNAVAILABLE
    token = bench.idp.token("alice")
    assert await bench.cached(token, BOTH, b"both") is None
    resolution = await bench.ask(token, BOTH)
    assert issued(resolution, "one") == "one of alice, 0"
    with pytest.raises(AuthError) as caught:
        resolution.credentials_of("two")
    assert caught.value.reason is Reason.CREDENTIALS_UNAVAILABLE
    assert caught.value.principal is resolution.principal
    bench.broker.errors.clear()
    assert await bench.cached(token, BOTH, b"both") is not None


async def test_a_response_that_takes_more_memory_counts_as_more(bench: Bench) -> None:
    token = bench.idp.token("alice")
    taken = []
    for digest, selection in ((b"none", ()), (b"one", ONE), (b"both", BOTH)):
        await bench.cached(token, selection, digest)
        response = bench.resolver.cached_response(digest)
        assert response is not None
        taken.append(response.memory_bytes())
    assert taken[0] + 1_000 < taken[1] < taken[2] - 1_000


def rejecting(token: str, name: str = "one") -> tuple[CredentialRequest, ...]:
    return (CredentialRequest(name, rejected=hashlib.sha256(token.encode()).digest()),)


async def test_no_response_is_served_again_with_a_token_that_an_api_has_rejected(
    bench: Bench,
) -> None:
    token, broker = bench.idp.token("alice"), bench.broker
    first = broker.token("one", "alice")
    for digest, selection in ((b"one", ONE), (b"both", BOTH), (b"two", BOTH[1:])):
        assert await bench.cached(token, selection, digest) is not None
    broker.versions["one"] += 1
    renewed = await bench.ask(token, rejecting(first), digest=b"rejecting")
    assert issued(renewed, "one") == broker.token("one", "alice") != first
    assert bench.in_cache(b"rejecting") is None
    assert (bench.in_cache(b"one"), bench.in_cache(b"both")) == (None, None)
    assert bench.in_cache(b"two") is not None
    again = await bench.ask(token, ONE, digest=b"one")
    assert issued(again, "one") == broker.token("one", "alice")
    assert bench.in_cache(b"one") is not None


async def test_a_rejected_token_that_the_broker_keeps_is_kept(bench: Bench) -> None:
    token = bench.idp.token("alice")
    first = bench.broker.token("one", "alice")
    assert await bench.cached(token, ONE, b"one") is not None
    kept = await bench.ask(token, rejecting(first))
    assert issued(kept, "one") == first
    assert bench.in_cache(b"one") is not None


@pytest.mark.parametrize("reason", [Reason.CREDENTIALS_REFUSED, Reason.CREDENTIALS_UNAVAILABLE])
async def test_a_rejected_token_without_another_is_not_cached_again(
    bench: Bench, reason: Reason
) -> None:
    token = bench.idp.token("alice")
    first = bench.broker.token("one", "alice")
    assert await bench.cached(token, ONE, b"one") is not None
    bench.broker.errors["one"] = reason
    with pytest.raises(AuthError):
        (await bench.ask(token, rejecting(first))).credentials_of("one")
    assert bench.in_cache(b"one") is None
    bench.broker.errors.clear()  # as a broker that keeps what it has while its issuer is away
    assert await bench.cached(token, ONE, b"one") is None


async def test_why_there_are_none_is_logged_once_a_second(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Rarely(log_lines.NOT_ISSUED_INTERVAL_SECONDS, bench.clock)
    monkeypatch.setattr(log_lines, "_not_issued", lines)
    caplog.set_level("INFO", logger=log_lines.__name__)
    bench.broker.errors |= {
        "one": Reason.CREDENTIALS_UNAVAILABLE,
        "two": Reason.CREDENTIALS_REFUSED,
    }
    token = bench.idp.token("alice")
    for _ in range(3):
        await bench.ask(token, BOTH)
    logged = [
        (it.levelname, it.message) for it in caplog.records if it.message.startswith("credentials ")
    ]
    assert logged == [
        ("WARNING", "credentials one are not issued: CREDENTIALS_UNAVAILABLE: for the log"),
        ("WARNING", "credentials two are not issued: CREDENTIALS_REFUSED: for the log"),
    ]
    shown = [getattr(caplog.records[-1], it) for it in ("subject", "issuer", "resource")]
    assert shown == ["alice", ISSUER, RESOURCE]
    caplog.clear()
    # A name that fails hides no other one.
    bench.broker.errors["three"] = Reason.TOKEN_EXPIRED
    await bench.ask(token, (CredentialRequest("three"),))
    assert [it.levelname for it in caplog.records] == ["INFO"]
    caplog.clear()
    bench.clock.advance(1)
    await bench.ask(token, ONE)
    assert len(caplog.records) == 1
    assert token not in caplog.text
    # One that asks for no name fails as a whole.
    caplog.clear()
    bench.broker.errors[""] = Reason.CREDENTIALS_UNAVAILABLE
    with pytest.raises(AuthError) as failed:
        await bench.ask(token, None)
    encoded_status_of(failed.value)
    assert [(it.levelname, it.message) for it in caplog.records] == [
        (
            "WARNING",
            "credentials without a name are not issued: CREDENTIALS_UNAVAILABLE: for the log",
        )
    ]


@pytest.mark.parametrize("name", ["", "one"])
@pytest.mark.parametrize("reason", [Reason.CREDENTIALS_UNAVAILABLE, Reason.CREDENTIALS_REFUSED])
async def test_a_failure_of_an_endpoint_is_one_line(
    bench: Bench,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    reason: Reason,
) -> None:
    """With the cache in front of the endpoint, and the status behind."""
    lines = Rarely(log_lines.NOT_ISSUED_INTERVAL_SECONDS, bench.clock)
    monkeypatch.setattr(log_lines, "_not_issued", lines)
    monkeypatch.setattr("authsvc.rpc.errors._logged", {})
    cache: CredentialCache[BearerCredentials] = CredentialCache()

    async def ask_endpoint() -> BearerCredentials:
        raise AuthError(reason, "why")

    async def issue(*_: object, **__: object) -> Credentials:
        return await cache.get("key", ask_endpoint, owner="alice", ends=START + 9, now=START)

    monkeypatch.setattr(bench.broker, "issue", issue)
    selection = (CredentialRequest(name),) if name else None
    with pytest.raises(AuthError) as failed:
        (await bench.ask(bench.idp.token("alice"), selection)).credentials_of(name)
    encoded_status_of(failed.value)
    (line,) = (it for it in caplog.records if it.levelname == "WARNING")
    assert line.message.endswith(f" are not issued: {reason.name}: why")


@pytest.mark.parametrize(
    ("selection", "error"),
    [
        (tuple(CredentialRequest(f"n{it}") for it in range(17)), ValueError),
        ((*ONE, replace(ONE[0], buckets=("b",))), ValueError),
        ("one", TypeError),
    ],
)
async def test_a_selection_is_checked(
    bench: Bench, selection: tuple[CredentialRequest, ...], error: type[Exception]
) -> None:
    for call in (
        bench.ask(bench.idp.token(), selection),
        bench.resolver.create(bench.idp.token(), resource=RESOURCE, credentials=selection),
    ):
        with pytest.raises(error):
            await call
    assert bench.broker.taken() == []


async def test_no_principal_has_tokens_served_again_that_another_has_had_rejected(
    bench: Bench,
) -> None:
    """Any digest can be named as rejected, and by everybody."""
    alice, bob = bench.idp.token("alice"), bench.idp.token("bob")
    first = bench.broker.token("one", "alice")
    assert await bench.cached(alice, ONE, b"one") is not None
    bench.broker.versions["one"] += 1
    await bench.ask(alice, rejecting(first))
    for n in range(MAX_REJECTED_TOKENS + 1):
        await bench.ask(bob, rejecting(f"junk {n}"), session="t")
    assert bench.in_cache(b"one") is None


async def test_no_principal_has_the_responses_of_another_decided_anew(bench: Bench) -> None:
    alice, bob = bench.idp.token("alice"), bench.idp.token("bob")
    first = bench.broker.token("one", "alice")
    assert await bench.cached(alice, ONE, b"one") is not None
    await bench.ask(bob, rejecting(first), session="t")
    assert bench.in_cache(b"one") is not None
