"""Rejected tokens are cached by digest and resource, for as long as nothing changes the verdict."""

from __future__ import annotations

import pytest

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.tokens import BearerToken
from authsvc.tokens.compact import CompactJws, parse_jws
from authsvc.tokens.jwt import Issuer, JwtVerifier
from authsvc.tokens.keys import KeySet, VerificationKey
from authsvc.tokens.minting import mint
from authsvc.tokens.rejections import Rejections

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
ISSUER = "https://idp.example"
RESOURCE = "https://mcp.example/mcp"
OTHER = "https://other.example/mcp"
SECRET, LATER = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"


class Keys:
    """A source whose keys the test changes."""

    failure = ""
    clock_offset_seconds = None

    def __init__(self, secret: str = SECRET, kid: str | None = "one") -> None:
        self._kid = kid
        self.newer: str | None = None
        self.unavailable = False
        self.publish(secret)

    def publish(self, secret: str) -> None:
        self.keys = KeySet((VerificationKey(self._kid, "HS256", secret.encode()),))

    def current(self, now: float) -> KeySet:
        if self.unavailable:
            raise AuthError(Reason.KEYS_UNAVAILABLE)
        return self.keys

    async def renew(self, now: float) -> bool:
        if self.newer is not None:
            self.publish(self.newer)
        return self.newer is not None

    async def refresh(self, now: float) -> None:
        """Nothing is due."""


class Verifier:
    """A verifier that counts the tokens that it reads in full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, keys: Keys) -> None:
        self._verifier = JwtVerifier([Issuer(ISSUER, keys)])
        self.read = 0

        def counted(token: str, *, max_bytes: int) -> CompactJws:
            self.read += 1
            return parse_jws(token, max_bytes=max_bytes)

        monkeypatch.setattr("authsvc.tokens.jwt.parse_jws", counted)

    async def verdict(self, token: str, resource: str = RESOURCE, now: float = NOW) -> object:
        try:
            await self._verifier.verify(BearerToken(token), resource=resource, now=now)
        except AuthError as error:
            return error.reason, error.detail, error.setting
        return "VALID"

    async def reason(self, token: str, resource: str = RESOURCE, now: float = NOW) -> object:
        verdict = await self.verdict(token, resource, now)
        return verdict[0] if isinstance(verdict, tuple) else verdict


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def verifier(monkeypatch: pytest.MonkeyPatch, keys: Keys) -> Verifier:
    return Verifier(monkeypatch, keys)


def token(
    secret: str = SECRET, *, kid: str | None = "one", algorithm: str = "HS256", **changes: object
) -> str:
    claims = {"iss": ISSUER, "sub": "alice", "aud": RESOURCE, "iat": NOW, "exp": NOW + 600}
    claims |= changes
    present = {name: value for name, value in claims.items() if value is not None}
    return mint(present, VerificationKey(kid, algorithm, secret.encode()))


INVALID = {
    Reason.TOKEN_MALFORMED: "a.b.c",
    Reason.TOKEN_ISSUER_UNKNOWN: token(iss="https://another.example"),
    Reason.TOKEN_SIGNATURE_INVALID: token(LATER),
    Reason.TOKEN_CLAIM_MISSING: token(iat=None),
    Reason.TOKEN_AUDIENCE_MISMATCH: token(aud="https://elsewhere.example"),
    Reason.TOKEN_TOO_LARGE: token(roles=["x" * 2_000]),
}

UNCERTAIN = {
    Reason.TOKEN_EXPIRED: token(iat=NOW - 900, exp=NOW - 300),
    Reason.TOKEN_NOT_YET_VALID: token(nbf=NOW + 300),
    Reason.TOKEN_KEY_UNKNOWN: token(kid="two"),
    Reason.TOKEN_ALGORITHM_REFUSED: token(2 * LATER, algorithm="HS512"),
}


@pytest.mark.parametrize("reason", INVALID, ids=lambda reason: reason.name)
async def test_a_verdict_on_the_bytes_is_given_once(verifier: Verifier, reason: Reason) -> None:
    first = await verifier.verdict(INVALID[reason])
    assert isinstance(first, tuple)
    assert first[0] is reason
    assert await verifier.verdict(INVALID[reason]) == first
    assert verifier.read == 1


@pytest.mark.parametrize("reason", UNCERTAIN, ids=lambda reason: reason.name)
async def test_what_the_clock_or_a_newer_key_changes_is_not_cached(
    verifier: Verifier, reason: Reason
) -> None:
    for _ in range(2):
        assert await verifier.reason(UNCERTAIN[reason]) is reason
    assert verifier.read == 2


async def test_a_key_that_is_published_later_counts_at_once(verifier: Verifier, keys: Keys) -> None:
    early = token(LATER)
    assert await verifier.reason(early) is Reason.TOKEN_SIGNATURE_INVALID
    keys.publish(LATER)
    assert await verifier.reason(early) == "VALID"


async def test_a_key_without_a_name_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keys(kid=None)
    verifier, early = Verifier(monkeypatch, keys), token(LATER)
    assert await verifier.reason(early) is Reason.TOKEN_SIGNATURE_INVALID
    keys.newer = LATER  # found by a look alone
    assert await verifier.reason(early) == "VALID"


async def test_keys_that_change_during_a_check_leave_no_verdict(
    verifier: Verifier, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(now: float) -> KeySet:
        keys.publish(SECRET)
        return keys.keys

    monkeypatch.setattr(keys, "current", changing)
    for _ in range(2):
        assert await verifier.reason(token(LATER)) is Reason.TOKEN_SIGNATURE_INVALID
    assert verifier.read == 2


async def test_a_verdict_is_of_one_resource(verifier: Verifier) -> None:
    other = token(aud=OTHER)
    for _ in range(2):
        assert await verifier.reason(other) is Reason.TOKEN_AUDIENCE_MISMATCH
        assert await verifier.reason(other, OTHER) == "VALID"


async def test_no_verdict_is_given_while_keys_are_unavailable(
    verifier: Verifier, keys: Keys
) -> None:
    forged = token(LATER)
    for unavailable in (False, True):
        keys.unavailable = unavailable
        verdict = await verifier.reason(forged)
        assert (verdict is Reason.KEYS_UNAVAILABLE) is unavailable
    for _ in range(2):
        assert await verifier.reason(token(aud=OTHER)) is Reason.KEYS_UNAVAILABLE


async def test_a_verdict_ends_where_another_reason_begins(verifier: Verifier) -> None:
    other = token(aud=OTHER)
    assert await verifier.reason(other) is Reason.TOKEN_AUDIENCE_MISMATCH
    assert await verifier.reason(other, now=NOW + 700) is Reason.TOKEN_EXPIRED
    assert await verifier.reason(other) is Reason.TOKEN_AUDIENCE_MISMATCH
    # A clock that steps back: not valid yet, which is checked before the audience.
    assert await verifier.reason(other, now=NOW - 700) is Reason.TOKEN_NOT_YET_VALID


async def test_an_expiry_that_is_no_number_is_malformed_each_time(verifier: Verifier) -> None:
    for _ in range(2):
        assert await verifier.reason(token(exp="never")) is Reason.TOKEN_MALFORMED
    assert verifier.read == 1


def test_rejected_tokens_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authsvc.tokens.rejections.REJECTED_TOKENS", 3)
    rejections = Rejections()
    for number in range(5):
        rejections.put((bytes([number]), RESOURCE), AuthError(Reason.TOKEN_MALFORMED), NOW)
    assert len(rejections) == 3
