"""Which claims identity providers use: the defaults of ``[issuers.claims]``, by profile."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from authsvc.tokens.claim_paths import ClaimPath, UsualPath
from authsvc.tokens.values import MAX_STRINGS


def _paths(*texts: str) -> tuple[ClaimPath, ...]:
    return tuple(map(ClaimPath, texts))


@dataclass(frozen=True, slots=True)
class ClaimPaths:
    """Where the parts of a principal are.

    Attributes:
        subject: the first that is there.
        client_id: the first that is there.
        actor: the first that is there: an object (RFC 8693 section 4.1).
        scopes: the first that is there.
        roles: all that are there.
        buckets: all that are there.
        permissions: all that are there.
        session: the provider's session, which its sign-out signals name: the first that is there.
    """

    subject: tuple[ClaimPath, ...] = _paths("sub")
    client_id: tuple[ClaimPath, ...] = (
        *_paths("client_id", "azp"),
        UsualPath("cid"),
        UsualPath("appid"),
    )
    actor: tuple[ClaimPath, ...] = _paths("act")
    scopes: tuple[ClaimPath, ...] = _paths("scope", "scp")
    roles: tuple[ClaimPath, ...] = (
        ClaimPath("roles"),
        UsualPath("/realm_access/roles", most=MAX_STRINGS["roles"]),
        UsualPath("groups", most=MAX_STRINGS["roles"]),
    )
    buckets: tuple[ClaimPath, ...] = _paths("buckets")
    permissions: tuple[ClaimPath, ...] = _paths("permissions")
    session: tuple[ClaimPath, ...] = _paths("sid")


STANDARD = ClaimPaths()


@dataclass(frozen=True, slots=True)
class Profile:
    """An identity provider's habits.

    Attributes:
        paths: where the parts of a principal are.
        kinds: claims that tell an access token from the provider's other tokens, which have the
            same issuer and keys: by claim, the values of access tokens. An empty one stands for a
            claim that is missing.
        names_client: whether each access token names its client, at ``paths.client_id``, and ID
            tokens do not.
        is_packed: whether its tokens are those of the original system; see ``quilt``.
    """

    paths: ClaimPaths = STANDARD
    kinds: Mapping[str, Collection[str]] = field(default_factory=dict)
    names_client: bool = False
    is_packed: bool = False


PROFILES: Mapping[str, Profile] = {
    "standard": Profile(),
    "quilt": Profile(replace(STANDARD, roles=_paths("roles")), is_packed=True),
    # Refresh, ID and offline tokens have another ``typ`` among their claims.
    "keycloak": Profile(
        replace(
            STANDARD,
            client_id=_paths("azp", "client_id"),
            roles=_paths("roles", "/realm_access/roles"),
        ),
        kinds={"typ": ("Bearer", "")},
    ),
    # ``sub`` is another one for each API; ``oid`` is a user's for all APIs of a tenant.
    "entra": Profile(
        replace(
            STANDARD,
            subject=_paths("oid", "sub"),
            client_id=_paths("azp", "appid"),
            scopes=_paths("scp"),
            # Its groups are ids, up to 200 of them.
            roles=_paths("roles"),
        ),
        names_client=True,
    ),
    "cognito": Profile(
        replace(
            STANDARD,
            client_id=_paths("client_id"),
            scopes=_paths("scope"),
            roles=_paths("cognito:groups"),
        ),
        kinds={"token_use": ("access",)},
    ),
    # Its introspection has the names of RFC 7662 for what its tokens have in their own.
    "okta": Profile(
        replace(
            STANDARD,
            client_id=_paths("cid", "client_id"),
            scopes=_paths("scp", "scope"),
            roles=_paths("groups"),
        ),
        names_client=True,
    ),
    "auth0": Profile(
        replace(
            STANDARD,
            client_id=_paths("azp", "client_id"),
            scopes=_paths("scope"),
            roles=_paths("roles"),
        ),
        names_client=True,
    ),
}
"""By name."""
