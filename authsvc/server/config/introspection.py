"""``[introspection]``: the issuer of opaque tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from authsvc.common.settings import ByResource, Table
from authsvc.server.config.egress import CA_FILE, PROXY, check_egress
from authsvc.server.config.values import EndpointUrl, NonEmpty, ProxyUrl


class IntrospectionSettings(Table):
    """``[introspection]``: the issuer that introspects opaque tokens (RFC 7662)."""

    issuer: NonEmpty = Field(description="Claim iss of its tokens.")
    endpoint: EndpointUrl = Field(description="Its introspection endpoint, https.")
    client_id: NonEmpty = Field(description="authsvc's client id.")
    client_secret_file: Path = Field(
        description="authsvc's client secret. A changed file takes effect."
    )
    allow_private_addresses: bool = Field(
        default=False, description="Whether the endpoint may have a private address."
    )
    ca_file: Path | None = Field(default=None, description=CA_FILE)
    proxy: ProxyUrl | None = Field(default=None, description=PROXY)
    audiences: ByResource[tuple[NonEmpty, ...]] = Field(
        default={},
        description="Accepted values of aud, by resource. Without an entry: the resource itself.",
    )
    leeway_seconds: float = Field(default=30.0, ge=0, le=300, description="Accepted clock skew.")
    profile: Literal["standard", "quilt"] = Field(
        default="standard",
        description="How claims map to a principal; quilt is the original system's mapping.",
    )
    subject_claim: Literal["sub", "id"] = Field(
        default="sub", description="The claim that holds the subject."
    )

    @model_validator(mode="after")
    def _https_where_it_matters(self) -> Self:
        check_egress(self, endpoint=self.endpoint)
        return self
