"""Why a token is accepted or rejected: the verifier's checks, in its order and by its functions,
continued after the first that fails.

The first check that fails is the verdict, the same as ``JwtVerifier.verify``'s.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from authsvc.cli.explanation_steps import Explanation, Mapped, Steps
from authsvc.cli.output import moment, plural
from authsvc.common.times import duration
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.provider_session import shown_digest
from authsvc.net.urls import resource_fault
from authsvc.tokens.claims import kept_text, numeric_date, optional_text
from authsvc.tokens.compact import CompactJws, parse_claims, parse_jws
from authsvc.tokens.issuer_names import IssuerNames
from authsvc.tokens.jwt import Issuer, candidates
from authsvc.tokens.keys import VerificationKey
from authsvc.tokens.validity import check_claims

Claims = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Policy:
    """What a token is checked against.

    Attributes:
        issuers: the trusted issuers, by name.
        resource: the audience that the token needs.
        registered: the resources that callers may ask for.
        now: seconds since the epoch.
        max_token_bytes: longest token that is parsed.
        retention_seconds: tokens issued longer ago are rejected, because their revocation may be
            deleted.
        introspected: claim ``iss`` of the issuer whose opaque tokens are introspected; empty for
            none.
        registered_in: the setting that registers a resource.
        unfetched: the issuers whose keys are not known, as they were not fetched.
    """

    issuers: Mapping[str, Issuer]
    resource: str
    registered: Collection[str]
    now: float
    max_token_bytes: int
    retention_seconds: float = math.inf
    introspected: str = ""
    registered_in: str = "resources"
    unfetched: Collection[str] = ()


async def explain(token: str, policy: Policy) -> Explanation:
    """Check ``token`` as ``JwtVerifier.verify`` does, and its age as the resolver does."""
    steps = Steps()
    _resource(steps, policy)
    jws, claims = _parsed(steps, token, policy.max_token_bytes)
    issuer = _issuer(steps, claims, policy)
    if jws is None or claims is None or issuer is None:
        steps.skip("typ", "key", "signature", *_OF_CLAIMS)
        return Explanation(tuple(steps.done))
    with steps.step("typ", issuer.table) as step:
        issuer.check_type(jws.token_type)
        step.text = jws.token_type or "none"
    if issuer.issuer in policy.unfetched:
        steps.skip("key", "signature", why="the keys were not fetched; --fetch fetches them")
    else:
        await _signature(steps, jws, issuer, policy.now)
    _claims(steps, claims, issuer, policy)
    mapped = _mapped(steps, jws, claims, issuer)
    _age(steps, claims, policy)
    return Explanation(tuple(steps.done), mapped)


_OF_CLAIMS = ("required claims", "lifetime", "aud", "principal", "age")


def _resource(steps: Steps, policy: Policy) -> None:
    with steps.step("resource") as step:
        if fault := resource_fault(policy.resource):
            raise AuthError(Reason.RESOURCE_INVALID, f"it {fault}")
        if policy.resource not in policy.registered:
            step.text = f"registered: {', '.join(policy.registered)}"
            raise AuthError(Reason.CALLER_NOT_ALLOWED, setting=policy.registered_in)
        step.text = "registered"


def _parsed(
    steps: Steps, token: str, max_token_bytes: int
) -> tuple[CompactJws | None, Claims | None]:
    jws, claims = None, None
    with steps.step("size") as step:
        step.text = f"{len(token)} of at most {max_token_bytes} bytes"
        if len(token) > max_token_bytes:
            raise AuthError(Reason.TOKEN_TOO_LARGE, setting="max_token_bytes")
    if steps.last_failed:
        steps.skip("format", "payload")
        return None, None
    with steps.step("format") as step:
        jws = parse_jws(token, max_bytes=max_token_bytes)
        named = f"kid {jws.key_id!r}" if jws.key_id is not None else "no kid"
        step.text = f"canonical; header {', '.join(jws.header)}; alg {jws.algorithm!r}, {named}"
    if jws is None:
        steps.skip("payload")
        return None, None
    with steps.step("payload") as step:
        claims = parse_claims(jws.payload)
        step.text = f"strict JSON; claims {', '.join(claims) or 'none'}"
    return jws, claims


def _issuer(steps: Steps, claims: Claims | None, policy: Policy) -> Issuer | None:
    issuer = None
    if claims is None:
        steps.skip("iss")
        return None
    with steps.step("iss") as step:
        name = optional_text(claims, "iss")
        issuer = policy.issuers.get(name)
        if issuer is None:
            step.text = f"trusted: {', '.join(map(repr, policy.issuers)) or 'none'}"
            raise IssuerNames(policy.issuers, policy.introspected).unknown(name)
        step.text = repr(name)
    return issuer


async def _signature(steps: Steps, jws: CompactJws, issuer: Issuer, now: float) -> None:
    keys: tuple[VerificationKey, ...] = ()
    with steps.step("key", issuer.table) as step:
        keys = await candidates(issuer.keys, jws, now)
        step.text = f"{keys[0].algorithm} key of {issuer.issuer!r}"
        if len(keys) > 1:
            step.text += f", and {len(keys) - 1} previous"
    if not keys:
        steps.skip("signature")
        return
    with steps.step("signature", issuer.table) as step:
        if not any(key.verifies(jws.signing_input, jws.signature) for key in keys):
            raise AuthError(Reason.TOKEN_SIGNATURE_INVALID)
        step.text = "verifies"


def _claims(steps: Steps, claims: Claims, issuer: Issuer, policy: Policy) -> None:
    """The checks one by one, so that a token that has expired and is for another resource shows
    both failures."""
    with steps.step("required claims", issuer.table) as step:
        check_claims(
            claims, required=issuer.required_claims, leeway_seconds=math.inf, now=policy.now
        )
        step.text = ", ".join(dict.fromkeys((*issuer.required_claims, "exp")))
    if steps.last_failed:
        steps.skip("lifetime")
    else:
        with steps.step("lifetime", issuer.table) as step:
            step.text = _lifetime(claims, issuer.leeway_seconds, policy.now)
            check_claims(claims, required=(), leeway_seconds=issuer.leeway_seconds, now=policy.now)
    with steps.step("aud", issuer.table) as step:
        issuer.check_audience(claims, policy.resource)
        if claims.get("aud") is None:
            step.text = "none; its client is one of client_ids"
        else:
            step.text = f"{claims['aud']!r:.300}"


def _lifetime(claims: Claims, leeway_seconds: float, now: float) -> str:
    times = [(name, numeric_date(claims, name)) for name in ("iat", "nbf", "exp")]
    shown = [f"{name} {moment(time, now)}" for name, time in times if time is not None]
    return f"{', '.join(shown)}; leeway {duration(leeway_seconds)}"


def _mapped(steps: Steps, jws: CompactJws, claims: Claims, issuer: Issuer) -> Mapped | None:
    mapped = None
    with steps.step("principal", issuer.table) as step:
        principal = issuer.mapping.principal(claims, jws.payload)
        kept_text(claims, "jti")
        session = shown_digest(issuer.mapping.provider_session(claims))
        mapped = Mapped(principal, issuer.mapping.sources(claims), session)
        counts = {
            "role": principal.roles,
            "scope": principal.scopes,
            "bucket": principal.buckets,
            "permission": principal.permissions,
        }
        has = ", ".join(plural(len(items), noun) for noun, items in counts.items())
        step.text = f"subject {principal.subject!r}, client {principal.client_id!r}, {has}"
    return mapped


def _age(steps: Steps, claims: Claims, policy: Policy) -> None:
    if any(step.reason is Reason.TOKEN_MALFORMED for step in steps.done):
        steps.skip("age")
        return
    with steps.step("age") as step:
        issued = numeric_date(claims, "iat") or 0.0
        step.text = "recent enough: a revocation of it would still be kept"
        if 0 < issued < policy.now - policy.retention_seconds:
            step.text = ""
            raise AuthError(
                Reason.TOKEN_EXPIRED,
                f"issued more than {duration(policy.retention_seconds)} ago",
                setting="revocations.retention_seconds",
            )
