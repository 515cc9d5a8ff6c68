"""``[credentials]``: where downstream credentials come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from authsvc.common.setting_rules import Fault, rule
from authsvc.common.settings import Table
from authsvc.credentials.conditions import PrincipalConditions
from authsvc.server.config.conditions import Conditions
from authsvc.server.config.egress import CA_FILE, PROXY, egress_faults
from authsvc.server.config.exchange import ExchangeSettings
from authsvc.server.config.session_tags import ClaimTags, tag_faults
from authsvc.server.config.values import EndpointUrl, NonEmpty, ProxyUrl, RoleArn


class StaticCredentials(Conditions):
    """``[[credentials.static]]``: the credentials of one role."""

    NAMED_BY: ClassVar[str] = "role"

    role: NonEmpty = Field(description="A role that the token has to have.")
    access_key_id: NonEmpty = Field(description="The access key id.")
    secret_access_key_file: Path = Field(description="The secret access key.")
    session_token_file: Path | None = Field(
        default=None, description="The session token, if the key has one."
    )
    region: NonEmpty = Field(default="us-east-1", description="The region of the credentials.")

    def principals(self) -> PrincipalConditions:
        """The principals that the table is for."""
        conditions = super().principals()
        return replace(conditions, roles=(*conditions.roles, frozenset({self.role})))


class StsRole(Table):
    """``[[credentials.sts.roles]]``: an AWS role, and the principals that get it."""

    NAMED_BY: ClassVar[str] = "arn"

    issuer: NonEmpty = Field(description="Claim iss of the principals that get it.")
    role: str = Field(
        default="",
        description="A role that the token has to have. Without it, all of the issuer's "
        "principals get the AWS role.",
    )
    arn: RoleArn = Field(description="The ARN of the AWS role.")
    max_seconds: int = Field(
        default=3_600,
        ge=900,
        le=43_200,
        description="The maximum session duration of the AWS role.",
    )


class StsSettings(Conditions):
    """``[[credentials.sts]]``: AWS credentials, limited by the claims (docs/credentials.md)."""

    NAMED_BY: ClassVar[str] = "resources"

    region: str = Field(
        pattern=r"^[a-z0-9-]+$", description="The region of STS and of the credentials."
    )
    endpoint_url: EndpointUrl | None = Field(
        default=None, description="Another endpoint of STS, such as a VPC endpoint."
    )
    ca_file: Path | None = Field(default=None, description=CA_FILE)
    proxy: ProxyUrl | None = Field(default=None, description=PROXY)
    access_key_id: NonEmpty | None = Field(default=None, description="authsvc's access key id.")
    secret_access_key_file: Path | None = Field(
        default=None, description="Its secret access key. A changed file takes effect."
    )
    session_token_file: Path | None = Field(
        default=None, description="The session token, if the key has one."
    )
    web_identity_token_file: Path | None = Field(
        default=None,
        description="In place of an access key: authsvc's token for AssumeRoleWithWebIdentity.",
    )
    ambient: bool = Field(
        default=False,
        description="In place of an access key: the ambient credentials of the machine.",
    )
    use_client_token: bool = Field(
        default=False,
        description="In place of an access key: the client's token, for AssumeRoleWithWebIdentity. "
        "The roles trust its issuer.",
    )
    session_tags: bool = Field(
        default=True, description="Whether sessions are tagged; needs sts:TagSession."
    )
    source_identity: bool = Field(
        default=True,
        description="Whether sessions have a source identity; needs sts:SetSourceIdentity.",
    )
    buckets_by: Literal["policy", "role"] = Field(
        default="policy",
        description="What confines a session to buckets: its session policy, by the token's "
        "buckets; or the role's permission policy, by the tags of claim_tags.",
    )
    claim_tags: ClaimTags = Field(
        default={},
        description="Tags of the sessions: by the tag's key the claim, by its name or JSON Pointer "
        "(RFC 6901). A token without it gets no credentials. Needs sts:TagSession.",
    )
    roles: tuple[StsRole, ...] = Field(min_length=1, description="The first that matches applies.")

    @rule
    def _one_identity(self) -> Iterator[Fault]:
        given = (
            self.access_key_id,
            self.web_identity_token_file,
            self.ambient or None,
            self.use_client_token or None,
        )
        if sum(item is not None for item in given) != 1:
            yield Fault(
                "needs exactly one of access_key_id, web_identity_token_file, ambient = true and "
                "use_client_token = true"
            )

    @rule
    def _tags_can_be_sent(self) -> Iterator[Fault]:
        yield from tag_faults(self.claim_tags)
        if self.use_client_token or self.web_identity_token_file is not None:
            yield from self.without_effect(
                ("session_tags", "source_identity", "claim_tags"),
                "with AssumeRoleWithWebIdentity: STS takes it from claims of the token. Remove it",
            )

    @rule
    def _something_confines(self) -> Iterator[Fault]:
        if self.buckets_by == "role" and not self.claim_tags and not self.use_client_token:
            yield Fault(
                'sessions of all principals would have all buckets of the role: "role" needs '
                "claim_tags, or use_client_token = true with tags in the token",
                ("buckets_by",),
            )

    @rule
    def _whole_access_key(self) -> Iterator[Fault]:
        if (self.access_key_id is None) != (self.secret_access_key_file is None):
            yield Fault("access_key_id and secret_access_key_file go together")
        elif self.session_token_file is not None and self.access_key_id is None:
            yield Fault("session_token_file needs access_key_id")

    @rule
    def _https_where_it_matters(self) -> Iterator[Fault]:
        yield from egress_faults(self, endpoint_url=self.endpoint_url or "")

    @rule
    def _roles_differ(self) -> Iterator[Fault]:
        principals = [(item.issuer, item.role) for item in self.roles]
        if len(set(principals)) < len(principals):
            yield Fault("two have the same issuer and role", ("roles",))
        for position, (issuer, role) in enumerate(principals):
            if role and (issuer, "") in principals[:position]:
                yield Fault(
                    f"never applies: an entry before it is for all principals of {issuer}. Move "
                    "that one to the end",
                    ("roles", position),
                )


CredentialTable = StaticCredentials | StsSettings | ExchangeSettings


class CredentialSettings(Table):
    """``[credentials]``: where downstream credentials come from."""

    static: tuple[StaticCredentials, ...] = ()
    sts: tuple[StsSettings, ...] = ()
    exchange: tuple[ExchangeSettings, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """The names of all credentials; empty for those without one."""
        return frozenset(it.name for it in (*self.static, *self.sts, *self.exchange))

    def has(self, name: str, resource: str) -> bool:
        """Whether a table gives credentials of this name at this resource."""
        tables = (*self.static, *self.sts, *self.exchange)
        return any(it.name == name and resource in it.resources for it in tables)
