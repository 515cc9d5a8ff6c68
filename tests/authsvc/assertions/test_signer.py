"""Assertions as their verifiers see them, and when they are signed anew."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jwt
import pytest

from authsvc.assertions.claims import MAX_ACT_BYTES, sid_claim
from authsvc.assertions.key_ring import MAX_AGE_SECONDS, KeyRing
from authsvc.assertions.key_set import DAY_SECONDS
from authsvc.assertions.sealing import NoSeal
from authsvc.assertions.signer import Assertions
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import (
    Actor,
    Outcome,
    Principal,
    Resolution,
    Session,
    SessionState,
)
from authsvc.stores.memory import MemoryStore
from tests.support.clock import START, Clock

pytestmark = pytest.mark.anyio

ISSUER = "https://authsvc.example"
FILES = "https://mcp.example/files"
MAIL = "https://mcp.example/mail"
TOKEN, OTHER_TOKEN = bytes(range(32)), bytes(range(1, 33))

ALICE = Principal(
    "https://idp.example",
    "alice",
    START + 3_600.0,
    client_id="app",
    scopes=("files.read", "files.write"),
    roles=("admin", "auditor"),
    claims_json=b'{"sub":"alice"}',
)
SESSION = Session("s-1234567890", SessionState.AUTHENTICATED, 2, START, START + 86_400.0)
RESOLVED = Resolution(SESSION, Outcome.REUSED, ALICE)


def of(principal: Principal = ALICE, session: Session = SESSION) -> Resolution:
    return Resolution(session, Outcome.REUSED, principal)


def acting(actor: Actor | None) -> Resolution:
    return of(replace(ALICE, actor=actor))


class Service:
    """Assertions over a store in memory."""

    def __init__(self, clock: Clock, **settings: int) -> None:
        self.clock = clock
        self.store = MemoryStore(unauthenticated_cap=1)
        self.keys = KeyRing(self.store, NoSeal(), rotation_seconds=30 * DAY_SECONDS, clock=clock)
        self.assertions = Assertions(self.keys, issuer=ISSUER, clock=clock, **settings)

    def make(
        self, resolution: Resolution = RESOLVED, resource: str = FILES, token: bytes = TOKEN
    ) -> str:
        return self.assertions.assertion(resolution, resource=resource, token_digest=token)

    def claims(self, resolution: Resolution = RESOLVED, resource: str = FILES) -> dict[str, Any]:
        return self.verified(self.make(resolution, resource), resource)

    def verified(self, assertion: str, resource: str = FILES) -> dict[str, Any]:
        """The claims by PyJWT, which checks the signature and the audience."""
        published = jwt.PyJWKSet.from_json(self.assertions.jwks().decode())
        header = jwt.get_unverified_header(assertion)
        claims: dict[str, Any] = jwt.decode(
            assertion,
            published[header["kid"]],
            algorithms=["ES256"],
            audience=resource,
            issuer=ISSUER,
            # The clock is the test's.
            options={"verify_exp": False, "verify_iat": False},
        )
        return claims


@pytest.fixture
def clock() -> Clock:
    return Clock(START + 0.9)


@pytest.fixture
async def service(clock: Clock) -> Service:
    made = Service(clock)
    await made.keys.load()
    return made


async def test_it_says_who_is_asking(service: Service) -> None:
    assert service.claims() == {
        "iss": ISSUER,
        "aud": FILES,
        "sub": "alice",
        "idp": "https://idp.example",
        "client_id": "app",
        "scope": "files.read files.write",
        "roles": ["admin", "auditor"],
        "sid": sid_claim(SESSION.id),
        "iat": int(START),
        "exp": int(START) + 60,
    }


async def test_its_header_has_its_type_and_key(service: Service) -> None:
    (published,) = json.loads(service.assertions.jwks())["keys"]
    assert jwt.get_unverified_header(service.make()) == {
        "alg": "ES256",
        "typ": "authsvc-assertion+jwt",
        "kid": published["kid"],
    }


async def test_what_a_token_lacks_is_not_made_up(service: Service) -> None:
    claims = service.claims(of(replace(ALICE, client_id="", scopes=(), roles=())))
    assert "client_id" not in claims
    assert "act" not in claims
    assert (claims["scope"], claims["roles"]) == ("", [])


async def test_sid_tells_sessions_apart_and_does_not_name_them(service: Service) -> None:
    other = service.claims(of(session=replace(SESSION, id="s-1234567891")))["sid"]
    assert service.claims()["sid"] != other
    assert SESSION.id not in service.make()
    assert len(other) == 43


# When it ends.


@pytest.mark.parametrize(
    ("token_end", "session_end", "expected"),
    [
        (1_000.0, 1_000.0, 60),
        (60.0, 1_000.0, 60),
        (59.999, 1_000.0, 59),
        (30.0, 1_000.0, 30),
        (1_000.0, 60.0, 60),
        (1_000.0, 59.999, 59),
        (1_000.0, 30.0, 30),
        (40.0, 20.0, 20),
        (20.0, 40.0, 20),
        (1.0, 1_000.0, 1),
        (1_000.0, 1.0, 1),
    ],
)
async def test_it_ends_with_the_first_of_lifetime_token_and_session(
    service: Service, token_end: float, session_end: float, expected: int
) -> None:
    claims = service.claims(
        of(
            replace(ALICE, expire_time=START + token_end),
            replace(SESSION, expire_time=START + session_end),
        )
    )
    assert claims["iat"] == START
    assert claims["exp"] - claims["iat"] == expected


@pytest.mark.parametrize("seconds", [5, 17, 60])
async def test_its_lifetime_is_configured(clock: Clock, seconds: int) -> None:
    service = Service(clock, lifetime_seconds=seconds)
    await service.keys.load()
    claims = service.claims()
    assert claims["exp"] - claims["iat"] == seconds


@pytest.mark.parametrize(
    ("token_end", "session_end", "reason"),
    [
        (0.95, 1_000.0, Reason.TOKEN_EXPIRED),
        (-5.0, 1_000.0, Reason.TOKEN_EXPIRED),
        (1_000.0, 0.95, Reason.SESSION_EXPIRED),
        (1_000.0, -5.0, Reason.SESSION_EXPIRED),
    ],
)
async def test_none_is_made_that_has_ended(
    service: Service, token_end: float, session_end: float, reason: Reason
) -> None:
    resolution = of(
        replace(ALICE, expire_time=START + token_end),
        replace(SESSION, expire_time=START + session_end),
    )
    with pytest.raises(AuthError) as caught:
        service.make(resolution)
    assert caught.value.reason is reason


# The actor.


@pytest.mark.parametrize(
    ("actor", "act"),
    [
        (None, None),
        (Actor("agent"), {"sub": "agent"}),
        (
            Actor("agent", "https://idp.example", "app", Actor("other")),
            {
                "sub": "agent",
                "iss": "https://idp.example",
                "client_id": "app",
                "act": {"sub": "other"},
            },
        ),
    ],
)
async def test_the_actor_is_as_it_was_verified(
    service: Service, actor: Actor | None, act: object
) -> None:
    assert service.claims(acting(actor)).get("act") == act


async def test_another_actor_gets_another_assertion(service: Service) -> None:
    """The cache goes by the token's digest, and compares the principal."""
    assert service.claims(acting(Actor("one")))["act"]["sub"] == "one"
    assert service.claims(acting(Actor("two")))["act"]["sub"] == "two"
    assert "act" not in service.claims(acting(None))


async def test_the_actor_is_bounded(service: Service) -> None:
    def actor(length: int) -> Actor:
        return Actor("x" * (length - len('{"sub": ""}')))

    assert len(service.claims(acting(actor(MAX_ACT_BYTES)))["act"]["sub"]) > 2_000
    with pytest.raises(AuthError, match="act") as caught:
        service.make(acting(actor(MAX_ACT_BYTES + 1)))
    assert caught.value.reason is Reason.TOKEN_MALFORMED


# The cache.


async def test_it_is_served_again_while_half_of_its_life_is_left(
    service: Service, clock: Clock
) -> None:
    first = service.make()
    clock.now = START + 29.99
    assert service.make() == first
    clock.now = START + 30.0
    second = service.make()
    assert second != first
    assert service.verified(second)["exp"] == START + 90
    assert (service.assertions.counts.signed, service.assertions.counts.cached) == (2, 1)


async def test_a_short_one_is_served_for_half_of_its_life(service: Service, clock: Clock) -> None:
    short = of(replace(ALICE, expire_time=START + 10.0))
    first = service.make(short)
    clock.now = START + 4.99
    assert service.make(short) == first
    clock.now = START + 5.0
    assert service.make(short) != first


async def test_each_token_session_revision_and_resource_has_its_own(service: Service) -> None:
    made = {
        service.make(),
        service.make(token=OTHER_TOKEN),
        service.make(of(session=replace(SESSION, id="s-another"))),
        service.make(of(session=replace(SESSION, revision=3))),
        service.make(resource=MAIL),
    }
    assert len(made) == service.assertions.counts.signed == 5
    assert service.verified(service.make(resource=MAIL), MAIL)["aud"] == MAIL


async def test_another_role_of_the_same_token_is_signed_anew(service: Service) -> None:
    """Introspection may answer otherwise for the same token."""
    service.make()
    assert service.claims(of(replace(ALICE, roles=("guest",))))["roles"] == ["guest"]


async def test_equal_principals_share_one(service: Service) -> None:
    first = service.make()
    assert service.make(of(replace(ALICE))) == first


async def test_another_key_signs_anew(service: Service, clock: Clock) -> None:
    first = service.make()
    other = Service(clock)
    await other.keys.load()
    assert service.keys._loaded is not None
    service.keys._loaded = other.keys._loaded
    assert jwt.get_unverified_header(service.make()) != jwt.get_unverified_header(first)


async def test_the_cache_is_bounded(clock: Clock) -> None:
    service = Service(clock, max_cached=3)
    await service.keys.load()
    for number in range(10):
        service.make(of(session=replace(SESSION, id=f"s-{number}")))
    assert len(service.assertions._cached) == 3


# Without keys, without a principal.


async def test_without_keys_there_is_none(clock: Clock) -> None:
    with pytest.raises(AuthError) as caught:
        Service(clock).make()
    assert caught.value.reason is Reason.KEYS_UNAVAILABLE


async def test_a_cached_one_is_not_served_without_keys(service: Service, clock: Clock) -> None:
    lasting = Service(clock)
    await lasting.keys.load()
    lasting.make()
    lasting.keys._loaded = None
    with pytest.raises(AuthError) as caught:
        lasting.make()
    assert caught.value.reason is Reason.KEYS_UNAVAILABLE


async def test_old_keys_do_not_sign(service: Service, clock: Clock) -> None:
    clock.advance(MAX_AGE_SECONDS)
    service.make()
    clock.advance(0.01)
    with pytest.raises(AuthError) as caught:
        service.make()
    assert caught.value.reason is Reason.KEYS_UNAVAILABLE


@pytest.mark.parametrize("resolution", [Resolution(), Resolution(SESSION, Outcome.REUSED, None)])
async def test_nobody_has_none(service: Service, resolution: Resolution) -> None:
    with pytest.raises(ValueError, match="principal"):
        service.make(resolution)
