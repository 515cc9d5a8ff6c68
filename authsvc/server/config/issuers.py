"""``[[issuers]]``: the trusted issuers of JWTs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from authsvc.common.formats import check_issuer
from authsvc.common.settings import Resource, Table
from authsvc.server.config.values import Algorithm, EndpointUrl, NonEmpty


class IssuerSettings(Table):
    """``[[issuers]]``: one trusted issuer of tokens."""

    issuer: NonEmpty = Field(description="The token's claim iss, exactly.")
    algorithms: tuple[Algorithm, ...] = Field(
        min_length=1, description="What its keys may be used for."
    )
    secret_file: Path | None = Field(
        default=None,
        description="The HS256 secret, 32 bytes or more, made by chance: openssl rand -hex 32.",
    )
    previous_secret_files: tuple[Path, ...] = Field(
        default=(),
        description="Secrets that are still good while the new one spreads. A file that goes "
        "withdraws its secret.",
    )
    jwks_file: Path | None = Field(
        default=None,
        description="Its public keys (RFC 7517). A file that goes leaves its keys in force: to "
        "withdraw one, write the set without it.",
    )
    jwks_url: EndpointUrl | None = Field(default=None, description="Where they are fetched from.")
    discover: bool = Field(
        default=False, description="Find them by the issuer's metadata (OIDC, RFC 8414)."
    )
    allow_private_addresses: bool = Field(
        default=False, description="Whether keys may be fetched from addresses that are not public."
    )
    keys_max_stale_seconds: PositiveFloat = Field(
        default=86_400.0, description="How long fetched keys are trusted through an outage."
    )
    audiences: dict[Resource, tuple[NonEmpty, ...]] = Field(
        default={}, description="What aud may be, by resource; else the resource itself."
    )
    accepted_types: tuple[NonEmpty, ...] = Field(
        default=(), description="Header typ, such as at+jwt; else JWT, at+jwt or none."
    )
    leeway_seconds: float = Field(default=30.0, ge=0, le=300, description="Clock skew allowed.")
    profile: Literal["standard", "quilt"] = Field(
        default="standard",
        description="How its claims become a principal; quilt: the original system's.",
    )
    subject_claim: Literal["sub", "id"] = Field(
        default="sub", description="Which claim is the subject."
    )
    required_claims: tuple[NonEmpty, ...] = Field(
        default=("exp", "iat"), description="What its tokens have to say."
    )

    @model_validator(mode="after")
    def _one_kind_of_key(self) -> Self:
        given = [self.secret_file, self.jwks_file, self.jwks_url, self.discover or None]
        if sum(item is not None for item in given) != 1:
            raise ValueError(
                "needs exactly one of secret_file, jwks_file, jwks_url and discover = true"
            )
        if (self.secret_file is not None) != (self.algorithms == ("HS256",)) or (
            self.secret_file is None and "HS256" in self.algorithms
        ):
            raise ValueError(
                "secret_file goes with algorithms = ['HS256'], public keys with others"
            )
        if self.previous_secret_files and self.secret_file is None:
            raise ValueError("previous_secret_files needs secret_file")
        if self.discover:
            try:
                check_issuer(self.issuer)
            except ValueError as error:
                raise ValueError(f"discover: issuer {error}") from None
        return self

    @property
    def key_setting(self) -> str:
        """The setting that says where the keys are."""
        for name in ("secret_file", "jwks_file", "jwks_url"):
            if getattr(self, name) is not None:
                return name
        return "discover"
