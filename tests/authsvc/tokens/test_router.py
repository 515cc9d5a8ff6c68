"""JWTs go to one verifier, and all other tokens to another."""

from __future__ import annotations

import pytest

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Principal
from authsvc.domain.tokens import BearerToken, VerifiedToken
from authsvc.tokens.router import TokenRouter
from tests.support.clock import START
from tests.support.tokens import RESOURCE

pytestmark = pytest.mark.anyio

JWT, OPAQUE = BearerToken("header.claims.signature"), BearerToken("opaque.token")


class Verifier:
    """Takes each token that it is given, for its issuer."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._verified: dict[bytes, VerifiedToken] = {}

    def cached(self, token: BearerToken, *, resource: str, now: float) -> VerifiedToken | None:
        return self._verified.get(token.digest)

    def is_valid(self, token: VerifiedToken, *, resource: str, now: float) -> bool:
        return self._verified.get(token.digest) is token

    def needs_keys_alone(self, token: BearerToken) -> bool:
        return self._issuer == "jwt"

    async def verify(self, token: BearerToken, *, resource: str, now: float) -> VerifiedToken:
        if token.text.endswith("bad"):
            raise AuthError(Reason.TOKEN_MALFORMED, self._issuer)
        principal = Principal(self._issuer, "alice", now + 600)
        return self._verified.setdefault(token.digest, VerifiedToken(token.digest, principal, now))


@pytest.fixture
def router() -> TokenRouter:
    return TokenRouter(Verifier("jwt"), Verifier("opaque"))


@pytest.mark.parametrize(("token", "issuer"), [(JWT, "jwt"), (OPAQUE, "opaque")])
async def test_a_token_goes_to_the_verifier_of_its_kind(
    router: TokenRouter, token: BearerToken, issuer: str
) -> None:
    assert router.cached(token, resource=RESOURCE, now=START) is None
    verified = await router.verify(token, resource=RESOURCE, now=START)
    assert verified.principal.issuer == issuer
    assert router.cached(token, resource=RESOURCE, now=START) is verified


def test_keys_alone_are_needed_for_what_goes_by_keys(router: TokenRouter) -> None:
    assert router.needs_keys_alone(JWT)
    assert not router.needs_keys_alone(OPAQUE)


@pytest.mark.parametrize(("text", "issuer"), [("a.b.bad", "jwt"), ("bad", "opaque")])
async def test_a_rejected_token_is_not_given_to_the_other(
    router: TokenRouter, text: str, issuer: str
) -> None:
    with pytest.raises(AuthError) as caught:
        await router.verify(BearerToken(text), resource=RESOURCE, now=START)
    assert caught.value.detail == issuer


async def test_a_token_is_valid_while_the_verifier_of_its_kind_says_so(
    router: TokenRouter,
) -> None:
    for token in (JWT, OPAQUE):
        verified = await router.verify(token, resource=RESOURCE, now=START)
        assert router.is_valid(verified, resource=RESOURCE, now=START)
        other = VerifiedToken(token.digest, verified.principal, START)
        assert not router.is_valid(other, resource=RESOURCE, now=START)
