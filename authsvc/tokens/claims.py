"""Maps claims to a principal. A claim of an unexpected type is rejected: it means that issuer and
configuration disagree, and a guess could grant access."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from authsvc.domain.buckets import bucket_name
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Principal
from authsvc.tokens import quilt
from authsvc.tokens.values import check_count, check_lengths, malformed, string_list, strings

MAX_SUBJECT_LENGTH = 255
"""Characters in a subject (OpenID Connect Core section 2)."""

YEAR_10000 = 253_402_300_800
"""Later times are mistakes: they are in milliseconds, as a rule."""


@dataclass(frozen=True, slots=True)
class ClaimMapping:
    """How one issuer's claims become a principal.

    Attributes:
        profile: ``standard``, or ``quilt`` for the tokens of the original system.
        subject_claim: the claim that is the subject.
    """

    profile: Literal["standard", "quilt"] = "standard"
    subject_claim: str = "sub"

    def principal(self, claims: Mapping[str, object], claims_json: bytes) -> Principal:
        """The principal that verified ``claims`` describe.

        Args:
            claims: the payload of a token whose signature has been verified.
            claims_json: the same, as it was signed.

        Raises:
            AuthError: TOKEN_MALFORMED for a claim of the wrong type or content,
                TOKEN_CLAIM_MISSING without ``iss``, ``exp`` or a subject, TOKEN_TOO_LARGE for
                too many or too long buckets, permissions, roles or scopes, and for too long a
                ``client_id`` or ``azp``.
        """
        if self.profile == "quilt":
            claims = quilt.expanded(claims)
        return Principal(
            issuer=_required_text(claims, "iss"),
            subject=self._subject(claims),
            expire_time=_required_time(claims, "exp"),
            client_id=kept_text(claims, "client_id") or kept_text(claims, "azp"),
            scopes=_scopes(claims),
            roles=strings(claims, "roles"),
            buckets=_buckets(claims),
            permissions=strings(claims, "permissions"),
            claims_json=claims_json,
        )

    def _subject(self, claims: Mapping[str, object]) -> str:
        subject = _required_text(claims, self.subject_claim)
        if len(subject) > MAX_SUBJECT_LENGTH:
            raise malformed(self.subject_claim, f"is longer than {MAX_SUBJECT_LENGTH} characters")
        if not subject.isprintable():
            # Control characters, and invisible ones that make two subjects look the same.
            raise malformed(self.subject_claim, "has characters that cannot be printed")
        return subject


def numeric_date(claims: Mapping[str, object], name: str) -> float | None:
    """A NumericDate (RFC 7519 section 2), in seconds since the epoch; None when absent.

    Raises:
        AuthError: TOKEN_MALFORMED unless it is a finite number from 0 to the year 10000.
    """
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise malformed(name, "is not a number")
    if not 0 <= value < YEAR_10000:  # false for infinities and NaN, too
        raise malformed(name, "is not a time")
    return float(value)


def optional_text(claims: Mapping[str, object], name: str) -> str:
    """A string; empty when absent.

    Raises:
        AuthError: TOKEN_MALFORMED for anything else.
    """
    value = claims.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise malformed(name, "is not a string")
    return value


def kept_text(claims: Mapping[str, object], name: str) -> str:
    """A string that is stored in records, such as ``jti``; empty when absent.

    Raises:
        AuthError: TOKEN_MALFORMED for anything else, TOKEN_TOO_LARGE for too long a string.
    """
    text = optional_text(claims, name)
    check_lengths((text,), name)
    return text


def _required_text(claims: Mapping[str, object], name: str) -> str:
    if claims.get(name) is None:
        raise AuthError(Reason.TOKEN_CLAIM_MISSING, name)
    text = optional_text(claims, name)
    if not text:
        raise malformed(name, "is empty")
    return text


def _required_time(claims: Mapping[str, object], name: str) -> float:
    time = numeric_date(claims, name)
    if time is None:
        raise AuthError(Reason.TOKEN_CLAIM_MISSING, name)
    return time


def _scopes(claims: Mapping[str, object]) -> tuple[str, ...]:
    """``scope``, separated by spaces (RFC 8693 section 4.2), or ``scp``, as that or as a list.

    Spaces alone separate scopes: other white space is a part of one, and does not grant two.
    """
    name = "scope" if claims.get("scope") is not None else "scp"
    value = claims.get(name)
    if name == "scp" and isinstance(value, list):
        return string_list(value, "scope")
    scopes = tuple(dict.fromkeys(filter(None, optional_text(claims, name).split(" "))))
    check_count(len(scopes), "scope")
    check_lengths(scopes, "scope")
    return scopes


def _buckets(claims: Mapping[str, object]) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(map(bucket_name, strings(claims, "buckets"))))
    except ValueError:
        raise malformed("buckets", "names something that is no bucket") from None
