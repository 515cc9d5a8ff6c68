"""``[issuers.claims]`` and ``[introspection.claims]``: which claims make a principal."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from authsvc.common.settings import ByResource, Table
from authsvc.server.config.values import NonEmpty
from authsvc.tokens.claim_paths import ClaimPath
from authsvc.tokens.claims import ClaimMapping

ProfileName = Literal["standard", "quilt", "keycloak", "entra", "cognito", "okta", "auth0"]

PROFILE = "Defaults of claims, by identity provider; quilt is the original system's mapping."


CERTIFICATE_BOUND = (
    "Whether tokens that are bound to a client certificate (RFC 8705) are accepted. authsvc does "
    "not see the certificate: a proxy in front of the MCP server has to compare it with the token."
)


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _path(text: str) -> str:
    ClaimPath(text)
    return text


def _some(paths: tuple[str, ...]) -> tuple[str, ...]:
    if not paths:
        raise ValueError("names one claim or more")
    return paths


_Path = Annotated[str, AfterValidator(_path)]
_All = Annotated[tuple[_Path, ...], BeforeValidator(_listed)]
_First = Annotated[_All, AfterValidator(_some)]

ClientIds = Annotated[
    Annotated[tuple[NonEmpty, ...], Tag("list")]
    | Annotated[ByResource[tuple[NonEmpty, ...]], Tag("table")],
    # Without it, a wrong value would be an error of the list and of the table.
    Discriminator(lambda value: "table" if isinstance(value, dict) else "list"),
]
"""Clients, for any resource; or by resource."""


class ClaimsSettings(Table):
    """``[issuers.claims]``: each is a claim's name, a JSON Pointer (RFC 6901), or a list of them.

    What is not set is as the profile has it.
    """

    subject: _First | None = Field(
        default=None,
        description="The subject: the first claim that is there. Choose one that is never given to "
        "another user.",
    )
    client_id: _First | None = Field(
        default=None, description="The client: the first claim that is there."
    )
    actor: _All | None = Field(
        default=None,
        description="Who acts for the subject: the first claim that is there, an object such as "
        "act of RFC 8693, its default. [] for an issuer whose act is something else.",
    )
    scopes: _First | None = Field(
        default=None,
        description="The scopes: the first claim that is there, a list or a string with spaces.",
    )
    roles: _All | None = Field(
        default=None,
        description="The roles: all of these claims together, each a list or one string.",
    )
    buckets: _All | None = Field(default=None, description="The buckets, as roles.")
    permissions: _All | None = Field(default=None, description="The permissions, as roles.")
    session: _All | None = Field(
        default=None,
        description="The provider's session, which its sign-out signals name: the first claim that "
        "is there. An empty list reads none: a sign-out then ends all sessions of the subject.",
    )

    def mapping(
        self, profile: ProfileName, *, allows_certificate_bound: bool = False
    ) -> ClaimMapping:
        """These claims in place of the profile's."""
        given = self.model_dump(exclude_none=True)
        mapping = ClaimMapping.of(
            profile, **{part: tuple(map(ClaimPath, paths)) for part, paths in given.items()}
        )
        return replace(mapping, allows_certificate_bound=allows_certificate_bound)
