"""``[introspection]``: the issuer whose tokens are introspected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from authsvc.common.setting_rules import Fault, rule
from authsvc.common.settings import ByResource
from authsvc.server.config.accepted_tokens import AUDIENCES, CLIENT_IDS, empty_entries
from authsvc.server.config.claims import (
    CERTIFICATE_BOUND,
    PROFILE,
    ClaimsSettings,
    ClientIds,
    ProfileName,
)
from authsvc.server.config.clients import EndpointSettings
from authsvc.server.config.values import NonEmpty


class IntrospectionSettings(EndpointSettings):
    """``[introspection]``: the issuer that introspects its tokens (RFC 7662)."""

    issuer: NonEmpty = Field(description="Claim iss of its tokens.")
    tokens: Literal["opaque", "all"] = Field(
        default="opaque",
        description="Which of its tokens are introspected: opaque ones, or all, those in the shape "
        "of a JWT too. An issuer that is also in [[issuers]] needs opaque, written here: its JWTs "
        "are verified by its keys.",
    )
    audiences: ByResource[tuple[NonEmpty, ...]] = Field(default={}, description=AUDIENCES)
    audience_optional: bool = Field(
        default=False,
        description="Whether answers without aud are accepted. Any active token of this issuer is "
        "then accepted for every resource, whatever it was issued for.",
    )
    expiry_optional: bool = Field(
        default=False,
        description="Whether answers without exp are accepted. Such a token is taken to be valid "
        "for three to five minutes after each answer.",
    )
    token_type_optional: bool = Field(
        default=False,
        description="Whether answers without aud may be without token_type, too. The issuer's "
        "refresh tokens are then accepted, if it introspects them.",
    )
    leeway_seconds: float = Field(default=30.0, ge=0, le=300, description="Accepted clock skew.")
    client_ids: ClientIds = Field(default=(), description=CLIENT_IDS)
    allow_certificate_bound: bool = Field(default=False, description=CERTIFICATE_BOUND)
    profile: ProfileName = Field(default="standard", description=PROFILE)
    claims: ClaimsSettings = ClaimsSettings()

    @rule
    def _clients_count(self) -> Iterator[Fault]:
        if self.audience_optional and self.client_ids:
            yield Fault(
                "has no effect with audience_optional = true, which accepts every client: remove "
                "one of them",
                ("client_ids",),
            )

    @rule
    def _some_tokens_are_accepted(self) -> Iterator[Fault]:
        yield from empty_entries(self)

    @rule
    def _types_are_left_out(self) -> Iterator[Fault]:
        if not (self.audience_optional or self.client_ids):
            yield from self.without_effect(
                ("token_type_optional",), "without client_ids or audience_optional = true: set one"
            )
