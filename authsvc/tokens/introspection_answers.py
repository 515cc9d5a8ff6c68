"""What an introspection response (RFC 7662 section 2.2) says of a token.

The response is not signed: it comes from the endpoint itself. Spellings that cannot change who gets
in are therefore accepted, such as a time as a string of digits. Anything else is as strict as for a
JWT.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.tokens import VerifiedToken
from authsvc.tokens.audiences import Audiences
from authsvc.tokens.claims import ClaimMapping, kept_text, numeric_date, optional_text
from authsvc.tokens.compact import parse_json_object
from authsvc.tokens.validity import Lifetime, check_claims

SHOWN_CHARACTERS = 128
"""How much of another issuer's name a detail quotes."""

MAX_DEFAULT_SECONDS = 300.0
"""How long a token is taken to be valid at most whose response has no ``exp``, where that is
accepted. Each new response extends it."""

_DEFAULT_STEP_SECONDS = 120.0
"""The granularity of such a lifetime: credentials are issued anew each time that it changes."""

_ACCESS_TOKENS: Mapping[str, Collection[str]] = {
    "token_type": ("", "bearer", "access_token", "urn:ietf:params:oauth:token-type:access_token"),
    "token_use": ("", "access_token", "access"),
}
"""Accepted values of members that name the kind of token. Issuers also describe refresh tokens, in
spite of the hint (RFC 7662 section 2.1), and sender-constrained ones, which no bearer may use.
``N_A`` says that it is no access token (RFC 8693 section 2.2.1)."""

_TYPED_ACCESS_TOKENS = frozenset({"bearer", "at+jwt"})
"""Values of ``typ`` that name an access token."""

_OTHER_TYPES = frozenset({"refresh", "offline", "id", "logout", "dpop"})
"""Values of ``typ`` by which Keycloak marks its other tokens."""

_TIMES = ("exp", "iat", "nbf")
_DIGITS = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")


@dataclass(frozen=True, slots=True)
class IntrospectedIssuer:
    """An issuer whose tokens are introspected, and which of its responses are accepted.

    Attributes:
        issuer: claim ``iss`` of its tokens.
        mapping: how its claims become a principal.
        leeway_seconds: how far its clock may deviate.
        audiences: which of its tokens are for a resource.
        expiry_optional: whether a response without ``exp`` is accepted.
        token_type_optional: whether a response without ``aud`` may leave out the kind of token,
            too.
    """

    issuer: str
    mapping: ClaimMapping = field(default_factory=ClaimMapping)
    leeway_seconds: float = 30.0
    audiences: Audiences = field(default_factory=Audiences)
    expiry_optional: bool = False
    token_type_optional: bool = False

    def verified(
        self, response: bytes, digest: bytes, *, resource: str, now: float
    ) -> tuple[VerifiedToken, Lifetime]:
        """The token that a response describes.

        Args:
            response: the body.
            digest: the token's.
            resource: what the token was presented for.
            now: seconds since the epoch.

        Raises:
            AuthError: KEYS_UNAVAILABLE when it is no introspection response; TOKEN_INACTIVE or
                another reason of the token. A setting is one of the table of the issuer.
        """
        response = response.removeprefix(codecs.BOM_UTF8)
        claims = self._claims(response, now)
        lifetime = check_claims(claims, required=(), leeway_seconds=self.leeway_seconds, now=now)
        self.mapping.check_audience(self.audiences, claims, resource)
        if claims.get("aud") is None and not self.token_type_optional:
            _check_names_access_token(claims)
        token = VerifiedToken(
            digest=digest,
            principal=self.mapping.principal(claims, response),
            issue_time=numeric_date(claims, "iat") or 0.0,
            token_id=kept_text(claims, "jti"),
            provider_session=self.mapping.provider_session(claims),
        )
        return token, lifetime

    def _claims(self, response: bytes, now: float) -> dict[str, object]:
        """The members of a response for an active access token of the issuer."""
        try:
            claims = parse_json_object(response)
        except ValueError:
            raise _no_response("it is no strict JSON object") from None
        if not isinstance(claims.get("active"), bool):
            raise _no_response("active is neither true nor false")
        if not claims["active"]:
            raise AuthError(Reason.TOKEN_INACTIVE, "not active")
        claims["iss"] = self._checked_issuer(claims.get("iss"))
        _check_is_access_token(claims)
        for name in _TIMES:
            value = claims.get(name)
            if isinstance(value, str) and _DIGITS.fullmatch(value):
                claims[name] = float(value)
        if claims.get("exp") is None:
            if not self.expiry_optional:
                raise AuthError(Reason.TOKEN_CLAIM_MISSING, "exp", setting="expiry_optional")
            claims["exp"] = (
                (now + MAX_DEFAULT_SECONDS) // _DEFAULT_STEP_SECONDS * _DEFAULT_STEP_SECONDS
            )
        return claims

    def _checked_issuer(self, issuer: object) -> str:
        """The issuer, where a response names no other. One slash at the end makes no other."""
        if issuer is None or same_issuer(issuer, self.issuer):
            return self.issuer
        raise AuthError(
            Reason.TOKEN_ISSUER_UNKNOWN,
            f"the response names issuer {str(issuer)[:SHOWN_CHARACTERS]!r}, not {self.issuer!r}",
            setting="issuer",
        )


def same_issuer(one: object, other: str) -> bool:
    """Whether two names of issuers differ in one slash at the end at most."""
    return isinstance(one, str) and one.removesuffix("/") == other.removesuffix("/")


def _check_is_access_token(claims: Mapping[str, object]) -> None:
    for name, kinds in _ACCESS_TOKENS.items():
        if optional_text(claims, name).lower() not in kinds:
            raise AuthError(Reason.TOKEN_MALFORMED, f"no access token by its {name}")
    if str(claims.get("typ")).lower() in _OTHER_TYPES:
        raise AuthError(Reason.TOKEN_MALFORMED, "no access token by its typ")


def _check_names_access_token(claims: Mapping[str, object]) -> None:
    """Check that a response without ``aud`` names its kind of token.

    Issuers that also describe refresh tokens leave out both for them (oidc-provider, Spring
    Authorization Server).

    Raises:
        AuthError: TOKEN_MALFORMED.
    """
    if any(optional_text(claims, name) for name in _ACCESS_TOKENS):
        return
    if str(claims.get("typ")).lower() not in _TYPED_ACCESS_TOKENS:
        raise AuthError(
            Reason.TOKEN_MALFORMED,
            "the response has neither aud nor token_type, like that for a refresh token",
            setting="token_type_optional",
        )


def _no_response(fault: str) -> AuthError:
    return AuthError(
        Reason.KEYS_UNAVAILABLE, f"the response is not valid: {fault}", setting="endpoint"
    )
