"""The fuzzed function: how claims become a principal. It runs without a fuzzer, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from authsvc.domain.errors import AuthError
from authsvc.domain.resolution import MAX_ACTORS, Principal
from authsvc.tokens.audiences import Audiences
from authsvc.tokens.claim_paths import ClaimPath
from authsvc.tokens.claims import ClaimMapping
from authsvc.tokens.compact import parse_claims
from authsvc.tokens.profiles import PROFILES
from authsvc.tokens.values import MAX_STRINGS, MAX_SUBJECT_LENGTH, MAX_TEXT_LENGTH
from fuzz.tokens import NOW, RESOURCE

CLAIMS: Mapping[str, object] = {
    "iss": "https://idp.example",
    "sub": "alice",
    "exp": NOW + 600,
    "azp": "app1",
    "client_id": "app1",
    "cid": "app1",
    "typ": "Bearer",
    "token_use": "access",
    "scope": "read write",
    "scp": ["read"],
    "realm_access": {"roles": ["a", "b"]},
    "cognito:groups": ["c"],
    "groups": "d",
    "roles": ["e"],
    "https://example.com/roles": ["f"],
    "permissions": ["s3:GetObject"],
    "buckets": ["one"],
    "act": {
        "sub": "agent",
        "iss": "https://idp.example",
        "act": {"sub": "first", "client_id": "c"},
    },
}
"""Claims that every mapping accepts."""

_EVERYWHERE = tuple(
    map(ClaimPath, ("/realm_access/roles", "/groups/0", "https://example.com/roles", "/a~1b/0/1"))
)
MAPPINGS = (
    *map(ClaimMapping.of, PROFILES),
    ClaimMapping.of("standard", roles=_EVERYWHERE, permissions=_EVERYWHERE),
)
_AUDIENCES = Audiences(client_ids=("app1",))


def claims_verdict(data: bytes) -> str:
    """The reasons for which mappings reject claims; empty if one accepts them.

    Any other exception is a finding, and so is a principal that is out of bounds.
    """
    try:
        claims = parse_claims(data)
    except AuthError as error:
        return error.reason.name
    reasons = set()
    for mapping in MAPPINGS:
        try:
            _AUDIENCES.check(claims, RESOURCE, client_id=partial(mapping.client_id, claims))
            principal = mapping.principal(claims, data)
            sources = mapping.sources(claims)
        except AuthError as error:
            reasons.add(error.reason.name)
        else:
            _check(principal, sources)
            reasons.add("")
    return "" if "" in reasons else " ".join(sorted(reasons))


def _check(principal: Principal, sources: Mapping[str, tuple[str, ...]]) -> None:
    assert 0 < len(principal.subject) <= MAX_SUBJECT_LENGTH
    assert principal.subject.isprintable()
    assert len(principal.client_id) <= MAX_TEXT_LENGTH
    chain = list(principal.actor.chain()) if principal.actor else []
    assert len(chain) <= MAX_ACTORS
    for actor in chain:
        assert 0 < len(actor.subject) <= MAX_SUBJECT_LENGTH
        assert (actor.subject + actor.issuer + actor.client_id).isprintable()
        assert max(len(actor.issuer), len(actor.client_id)) <= MAX_TEXT_LENGTH
    for part, most in MAX_STRINGS.items():
        texts = getattr(principal, "scopes" if part == "scope" else part)
        assert len(texts) == len(set(texts)) <= most
        assert all(isinstance(text, str) and 0 < len(text) <= MAX_TEXT_LENGTH for text in texts)
        assert not texts or sources["scopes" if part == "scope" else part]


def odd_places() -> Iterator[dict[str, object]]:
    """The claims with each odd value where a pointer leads through it."""
    values: tuple[object, ...] = (None, True, 0, -1.5, "", "x", "\ud800", [], [[]], {})
    for odd in (*values, {"roles": 7}, {"": {}}):
        yield {**CLAIMS, "realm_access": odd}
        yield {**CLAIMS, "realm_access": {"roles": odd}}
        yield {**CLAIMS, "realm_access": {"roles": [odd]}}
        yield {**CLAIMS, "groups": [odd], "a/b": [[odd, odd]]}
        yield {**CLAIMS, "act": odd}
        yield {**CLAIMS, "act": {"sub": "agent", "iss": odd, "act": odd}}
