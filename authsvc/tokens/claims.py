"""Maps claims to a principal. A claim of an unexpected type is rejected: it means that issuer and
configuration disagree, and a guess could grant access."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial

from authsvc.domain.buckets import bucket_names
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.provider_session import session_digest
from authsvc.domain.resolution import Principal
from authsvc.tokens import quilt
from authsvc.tokens.actors import actor_of
from authsvc.tokens.audiences import Audiences
from authsvc.tokens.claim_paths import ClaimPath, first, present
from authsvc.tokens.profiles import PROFILES, STANDARD, ClaimPaths, Profile
from authsvc.tokens.values import (
    MAX_STRINGS,
    MAX_SUBJECT_LENGTH,
    MAX_TEXT_LENGTH,
    check_count,
    check_lengths,
    malformed,
    name_fault,
    string_list,
)

_ID_TOKEN_CLAIMS = ("at_hash", "c_hash")
"""Claims of ID tokens alone (OpenID Connect Core sections 3.1.3.6 and 3.3.2.11)."""

YEAR_10000 = 253_402_300_800
"""Later times are mistakes: they are in milliseconds, as a rule."""


@dataclass(frozen=True, slots=True)
class ClaimMapping:
    """How one issuer's claims become a principal.

    Attributes:
        paths: where the parts of a principal are.
        profile: the issuer's other habits; a principal does not come from its ``paths``.
        allows_certificate_bound: whether tokens that are bound to a client certificate are
            accepted: something else checks the certificate.
    """

    paths: ClaimPaths = STANDARD
    profile: Profile = PROFILES["standard"]
    allows_certificate_bound: bool = False

    @classmethod
    def of(cls, profile: str, **paths: tuple[ClaimPath, ...]) -> ClaimMapping:
        """The mapping of a profile, with other paths in place of its own.

        Args:
            profile: one of ``PROFILES``.
            paths: by attribute of ``ClaimPaths``.
        """
        return cls(replace(PROFILES[profile].paths, **paths), PROFILES[profile])

    def principal(self, claims: Mapping[str, object], claims_json: bytes) -> Principal:
        """The principal that verified ``claims`` describe.

        Args:
            claims: the payload of a token whose signature has been verified.
            claims_json: the same, as it was signed.

        Raises:
            AuthError: TOKEN_MALFORMED for a claim of the wrong type or content, or another token
                than an access token; TOKEN_CLAIM_MISSING without ``iss``, ``exp`` or a subject;
                TOKEN_TOO_LARGE for too many or too long buckets, permissions, roles or scopes, and
                for too long a client id.
        """
        _check_kind(claims, self.profile)
        _check_is_bearer(claims, allows_certificate_bound=self.allows_certificate_bound)
        claims = self._plain(claims)
        paths = self.paths
        return Principal(
            issuer=_required_text(claims, "iss"),
            subject=_subject(claims, paths.subject),
            expire_time=_required_time(claims, "exp"),
            client_id=_client_id(claims, paths.client_id),
            scopes=_scopes(claims, paths.scopes),
            roles=_union(claims, paths.roles, "roles"),
            buckets=_buckets(claims, paths.buckets),
            permissions=_union(claims, paths.permissions, "permissions"),
            claims_json=claims_json,
            actor=actor_of(claims, paths.actor),
        )

    def check_audience(
        self, audiences: Audiences, claims: Mapping[str, object], resource: str
    ) -> None:
        """Check that a token with these verified claims is for a resource.

        Raises:
            AuthError: TOKEN_AUDIENCE_MISMATCH, or another reason for malformed claims.
        """
        try:
            audiences.check(claims, resource, client_id=partial(self.client_id, claims))
        except AuthError:
            # An ID token is for its client: no setting should make that an audience.
            _check_kind(claims, self.profile)
            raise

    def client_id(self, claims: Mapping[str, object]) -> str:
        """The client that verified ``claims`` name; empty for none.

        Raises:
            AuthError: TOKEN_MALFORMED or TOKEN_TOO_LARGE for a claim that names none.
        """
        return _client_id(self._plain(claims), self.paths.client_id)

    def provider_session(self, claims: Mapping[str, object]) -> str:
        """The ``session_digest`` of the provider session that verified ``claims`` name; empty for
        none.

        Raises:
            AuthError: TOKEN_MALFORMED for a claim that names none: as if it were absent, no
                sign-out that names the session would revoke the token.
        """
        name, sid = first(self._plain(claims), self.paths.session)
        if sid is None:
            return ""
        if not isinstance(sid, str):
            raise malformed(name, "is not a string", "claims.session")
        if not sid:
            raise malformed(name, "is empty", "claims.session")
        if len(sid) > MAX_TEXT_LENGTH:
            raise malformed(name, f"is longer than {MAX_TEXT_LENGTH} characters", "claims.session")
        return session_digest(_required_text(claims, "iss"), sid)

    def sources(self, claims: Mapping[str, object]) -> dict[str, tuple[str, ...]]:
        """The paths that each part of the principal came from, by attribute of ``ClaimPaths``.

        Raises:
            AuthError: TOKEN_MALFORMED or TOKEN_TOO_LARGE for claims that cannot be unpacked.
        """
        claims = self._plain(claims)
        found = {
            item.name: tuple(path for path, _ in present(claims, getattr(self.paths, item.name)))
            for item in fields(self.paths)
        }
        for part in ("subject", "client_id", "actor", "scopes", "session"):
            found[part] = found[part][:1]
        return found

    def _plain(self, claims: Mapping[str, object]) -> Mapping[str, object]:
        return quilt.expanded(claims) if self.profile.is_packed else claims


def _check_kind(claims: Mapping[str, object], profile: Profile) -> None:
    """
    Raises:
        AuthError: TOKEN_MALFORMED for another token than an access token.
    """
    for name in _ID_TOKEN_CLAIMS:
        if claims.get(name) is not None:
            raise malformed(name, "is one of an ID token; send the access token")
    events = claims.get("events")
    if isinstance(events, dict) and any(":" in name for name in events):
        # Event types are URIs (RFC 8417 section 2.2). A logout token may have any ``typ``.
        raise malformed("events", "is one of a security event token; send the access token")
    for name, values in profile.kinds.items():
        if optional_text(claims, name) not in values:
            raise malformed(name, "is not that of an access token; send the access token")
    paths = profile.paths.client_id
    if profile.names_client and not _client_id(claims, paths):
        names = " or ".join(path.text for path in paths)
        raise malformed(names, "is missing, as in an ID token; send the access token")


def _check_is_bearer(claims: Mapping[str, object], *, allows_certificate_bound: bool) -> None:
    """
    Raises:
        AuthError: TOKEN_MALFORMED for a token that is bound to a key (RFC 7800), by DPoP (RFC 9449)
            or a client certificate (RFC 8705). No proof of the key is looked for, so that a thief
            would be let in as its owner is.
    """
    confirmation = claims.get("cnf")
    if not confirmation:
        return
    by_certificate = isinstance(confirmation, dict) and confirmation.keys() == {"x5t#S256"}
    if not by_certificate:
        raise malformed("cnf", "binds the token to a key, as DPoP does; have a bearer token issued")
    if not allows_certificate_bound:
        raise malformed("cnf", "binds the token to a client certificate", "allow_certificate_bound")


def _subject(claims: Mapping[str, object], paths: tuple[ClaimPath, ...]) -> str:
    name, subject = first(claims, paths)
    if subject is None:
        detail = " or ".join(path.text for path in paths)
        raise AuthError(Reason.TOKEN_CLAIM_MISSING, detail, setting="claims.subject")
    if not isinstance(subject, str):
        raise malformed(name, "is not a string", "claims.subject")
    if fault := name_fault(subject, MAX_SUBJECT_LENGTH):
        raise malformed(name, fault)
    return subject


def _client_id(claims: Mapping[str, object], paths: tuple[ClaimPath, ...]) -> str:
    for name, value in present(claims, paths):
        if not isinstance(value, str):
            raise malformed(name, "is not a string", "claims.client_id")
        if value:
            check_lengths((value,), name)
            return value
    return ""


def _scopes(claims: Mapping[str, object], paths: tuple[ClaimPath, ...]) -> tuple[str, ...]:
    """Scopes, separated by spaces (RFC 8693 section 4.2), or as a list.

    Spaces alone separate scopes: other white space is a part of one, and does not grant two.
    """
    name, value = first(claims, paths)
    if value is None:
        return ()
    if isinstance(value, list):
        return string_list(value, name, most=MAX_STRINGS["scope"], setting="claims.scopes")
    if not isinstance(value, str):
        raise malformed(name, "is neither a string nor a list of strings", "claims.scopes")
    scopes = tuple(dict.fromkeys(filter(None, value.split(" "))))
    check_count(len(scopes), name, most=MAX_STRINGS["scope"])
    check_lengths(scopes, name)
    return scopes


def _union(
    claims: Mapping[str, object], paths: tuple[ClaimPath, ...], part: str
) -> tuple[str, ...]:
    """All strings under ``paths``, without repeats, in order. One string counts as a list of it."""
    found: tuple[str, ...] = ()
    most = MAX_STRINGS[part]
    for name, value in present(claims, paths):
        listed = [value] if isinstance(value, str) else value
        found += string_list(listed, name, most=most, setting=f"claims.{part}")
    check_count(len(found), part, most=most)
    return tuple(dict.fromkeys(found)) if len(paths) > 1 else found


def _buckets(claims: Mapping[str, object], paths: tuple[ClaimPath, ...]) -> tuple[str, ...]:
    try:
        return bucket_names(_union(claims, paths, "buckets"))
    except ValueError:
        raise malformed("buckets", "names something that is no bucket", "claims.buckets") from None


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
