"""``[credentials]``: where downstream credentials come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from authsvc.common.formats import check_scope, check_uri
from authsvc.common.settings import Resource, Table
from authsvc.server.config.values import EndpointUrl, Line, NonEmpty, RoleArn


class StaticCredentials(Table):
    """``[[credentials.static]]``: what one role works with."""

    role: NonEmpty = Field(
        description="Which of the token's roles gets them; the first that fits counts."
    )
    access_key_id: NonEmpty = Field(description="The access key.")
    secret_access_key_file: Path = Field(description="Its secret.")
    session_token_file: Path | None = Field(default=None, description="What may go with it.")
    region: NonEmpty = Field(default="us-east-1", description="Of the credentials.")


class StsRole(Table):
    """``[[credentials.sts.roles]]``: a role, and whose it is."""

    issuer: NonEmpty = Field(description="Claim iss of who may have it.")
    role: str = Field(
        default="",
        description="What has to be among the token's roles; without it the role is for all of "
        "that issuer's principals.",
    )
    arn: RoleArn = Field(description="The role that is assumed.")
    max_seconds: int = Field(
        default=3_600, ge=900, le=43_200, description="The longest session that the role allows."
    )


class StsSettings(Table):
    """``[[credentials.sts]]``: credentials of AWS, confined to the claims (docs/credentials.md)."""

    resources: tuple[Resource, ...] = Field(
        default=(), description="For which resources; without it, for those no other table names."
    )
    region: str = Field(pattern=r"^[a-z0-9-]+$", description="Of STS, and of the credentials.")
    endpoint_url: EndpointUrl | None = Field(
        default=None, description="STS elsewhere: a VPC endpoint."
    )
    access_key_id: NonEmpty | None = Field(default=None, description="Our own access key.")
    secret_access_key_file: Path | None = Field(
        default=None, description="Its secret; followed when it changes."
    )
    session_token_file: Path | None = Field(default=None, description="What may go with it.")
    web_identity_token_file: Path | None = Field(
        default=None,
        description="Instead of a key: our own token, for AssumeRoleWithWebIdentity; followed.",
    )
    ambient: bool = Field(
        default=False, description="Instead of a key: what the machine or its environment offers."
    )
    session_tags: bool = Field(
        default=True, description="Whether sessions are tagged; takes sts:TagSession."
    )
    source_identity: bool = Field(
        default=True, description="Whether they have one; takes sts:SetSourceIdentity."
    )
    roles: tuple[StsRole, ...] = Field(min_length=1, description="The first that fits counts.")

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        given = (self.access_key_id, self.web_identity_token_file, self.ambient or None)
        if sum(item is not None for item in given) != 1:
            raise ValueError(
                "needs exactly one of access_key_id, web_identity_token_file and ambient = true"
            )
        if (self.access_key_id is None) != (self.secret_access_key_file is None):
            raise ValueError("access_key_id and secret_access_key_file go together")
        if self.session_token_file is not None and self.access_key_id is None:
            raise ValueError("session_token_file needs access_key_id")
        whose = [(item.issuer, item.role) for item in self.roles]
        if len(set(whose)) < len(whose):
            raise ValueError("roles: two have the same issuer and role")
        return self


class ExchangeSettings(Table):
    """``[[credentials.exchange]]``: a token for an API, in exchange for the client's (RFC 8693)."""

    resources: tuple[Resource, ...] = Field(
        default=(), description="For which resources; without it, for those no other table names."
    )
    issuers: tuple[NonEmpty, ...] = Field(
        min_length=1, description="Claim iss of the tokens that the endpoint may see."
    )
    endpoint: EndpointUrl = Field(description="The token endpoint, https.")
    client_id: NonEmpty = Field(description="Our name there.")
    client_secret_file: Path = Field(description="Our secret there; followed when it changes.")
    allow_private_addresses: bool = Field(
        default=False, description="Whether its address may be one that is not public."
    )
    audience: Line = Field(default="", description="The API, by its name there.")
    api: Annotated[str, AfterValidator(lambda uri: check_uri(uri) if uri else uri)] = Field(
        default="", description="The API, by its URI (RFC 8707)."
    )
    scopes: tuple[Annotated[str, AfterValidator(check_scope)], ...] = Field(
        default=(), description="What its token is to allow."
    )
    subject_token_type: Literal["access_token", "jwt"] = Field(
        default="access_token", description="What the client's token is to the endpoint."
    )


class CredentialSettings(Table):
    """``[credentials]``: where downstream credentials come from."""

    static: tuple[StaticCredentials, ...] = ()
    sts: tuple[StsSettings, ...] = ()
    exchange: tuple[ExchangeSettings, ...] = ()

    @model_validator(mode="after")
    def _one_broker_for_each_resource(self) -> Self:
        tables: list[StsSettings | ExchangeSettings] = [*self.sts, *self.exchange]
        named = [resource for table in tables for resource in table.resources]
        if len(set(named)) < len(named):
            raise ValueError("two tables name the same resource")
        if sum(not table.resources for table in tables) + bool(self.static) > 1:
            raise ValueError(
                "two tables are for all resources; give resources to all but one (static "
                "credentials are for all)"
            )
        return self
