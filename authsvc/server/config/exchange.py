"""``[[credentials.exchange]]``: the client's token exchanged for an API's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from authsvc.common.formats import check_scope, check_uri, spelled_resource
from authsvc.common.setting_rules import Fault, rule
from authsvc.server.config.clients import EndpointSettings
from authsvc.server.config.conditions import Conditions
from authsvc.server.config.egress import egress_faults, private_faults
from authsvc.server.config.values import EndpointUrl, Line, NonEmpty

ExchangeProfile = Literal["rfc8693", "jwt-bearer", "entra-obo", "id-jag", "gcp-sts"]

TokenType = Literal["access_token", "jwt", "id_token"]
"""The last part of a token type's URI (RFC 8693 section 3)."""

_USED: dict[ExchangeProfile, frozenset[str]] = {
    "rfc8693": frozenset(
        {
            *("audience", "api", "scopes", "subject_token_type", "requested_token_type"),
            *("actor_token_file", "actor_token_type"),
        }
    ),
    "jwt-bearer": frozenset({"api", "scopes"}),
    "entra-obo": frozenset({"scopes"}),
    "id-jag": frozenset({"audience", "api", "scopes", "subject_token_type", "api_server"}),
    "gcp-sts": frozenset(
        {
            *("audience", "scopes", "subject_token_type"),
            *("service_account", "service_account_endpoint"),
        }
    ),
}
"""The settings that have an effect in a profile, of those that not all of them have."""

_NEEDED: dict[ExchangeProfile, tuple[str, ...]] = {
    "rfc8693": (),
    "jwt-bearer": (),
    "entra-obo": ("scopes",),
    "id-jag": ("audience", "api_server"),
    "gcp-sts": ("audience", "scopes"),
}
"""The settings that a profile does not work without."""

_CONFIDENTIAL: frozenset[ExchangeProfile] = frozenset({"entra-obo", "id-jag"})
"""Profiles whose servers authenticate the client."""

PROVIDERS = "//iam.googleapis.com/"
"""What names of identity providers of Google Cloud begin with."""

ServiceAccountName = Annotated[
    str, Field(pattern=r"^([a-z0-9-]+@[a-z0-9.-]+\.gserviceaccount\.com|[0-9]{1,30}|)$")
]

Scopes = tuple[Annotated[str, AfterValidator(check_scope)], ...]


class ApiServerSettings(EndpointSettings):
    """``[credentials.exchange.api_server]``: the token endpoint of the API's authorization server,
    and authsvc as its client, for profile id-jag."""

    scopes: Scopes = Field(
        default=(),
        description="The scopes to request there as well, for a server that does not go by those "
        "of the assertion.",
    )


class ExchangeSettings(EndpointSettings, Conditions):
    """``[[credentials.exchange]]``: the client's token exchanged for an API's."""

    NAMED_BY: ClassVar[str] = "resources"
    MAY_BE_PUBLIC: ClassVar[bool] = True

    profile: ExchangeProfile = Field(
        default="rfc8693",
        description="What is requested: a token exchange (RFC 8693), a token for an assertion "
        "(jwt-bearer, RFC 7523), Microsoft Entra's on-behalf-of flow, an identity assertion for "
        "another authorization server (id-jag), or a token of Google Cloud (gcp-sts).",
    )
    issuers: tuple[NonEmpty, ...] = Field(
        min_length=1, description="Claim iss of the tokens that may be sent to the endpoint."
    )
    audience: Line = Field(
        default="",
        description="The API's name at the endpoint (audience). id-jag: the issuer identifier of "
        "the API's authorization server. gcp-sts: the provider's name, //iam.googleapis.com/….",
    )
    api: Annotated[str, AfterValidator(lambda uri: check_uri(uri) if uri else uri)] = Field(
        default="", description="The API's URI (resource, RFC 8707)."
    )
    scopes: Scopes = Field(default=(), description="The scopes of the API's token.")
    subject_token_type: TokenType | None = Field(
        default=None,
        description="The type of the client's token, for the endpoint. Default: access_token, or "
        "jwt for gcp-sts.",
    )
    requested_token_type: Literal["access_token", "jwt"] = Field(
        default="access_token", description="The type of the API's token."
    )
    actor_token_file: Path | None = Field(
        default=None,
        description="authsvc's own token, as the one that acts (actor_token), such as a Kubernetes "
        "service account token. Read for each request.",
    )
    actor_token_type: TokenType = Field(
        default="jwt", description="The type of the token in actor_token_file."
    )
    api_server: ApiServerSettings | None = Field(
        default=None, description="The API's authorization server, for id-jag."
    )
    service_account: ServiceAccountName = Field(
        default="",
        description="The service account of Google Cloud whose token is issued, by e-mail address "
        "or unique id. Without it: one of the principal itself.",
    )
    service_account_endpoint: EndpointUrl = Field(
        default="https://iamcredentials.googleapis.com",
        description="The IAM Service Account Credentials API, for service_account.",
    )

    @rule
    def _settings_of_the_profile(self) -> Iterator[Fault]:
        used = _USED[self.profile]
        for name in sorted(frozenset().union(*_USED.values()) - used):
            profiles = " or ".join(other for other, names in _USED.items() if name in names)
            yield from self.without_effect(
                (name,),
                f"with profile = {self.profile!r}: remove it, or set profile to {profiles}",
            )
        missing = [name for name in _NEEDED[self.profile] if not getattr(self, name)]
        if missing:
            yield Fault(f"profile = {self.profile!r} needs {' and '.join(missing)}")

    @rule
    def _an_actor_has_a_token(self) -> Iterator[Fault]:
        if self.profile == "rfc8693" and self.actor_token_file is None:
            yield from self.without_effect(
                ("actor_token_type",), "without actor_token_file: set it, or remove this"
            )

    @rule
    def _authenticates_as_the_profile_does(self) -> Iterator[Fault]:
        if self.auth_method == "none" and self.profile in _CONFIDENTIAL:
            yield Fault(f"none is not possible with profile = {self.profile!r}", ("auth_method",))
        if self.profile != "gcp-sts":
            return
        if self.auth_method != "none":
            yield Fault("has to be none with profile = 'gcp-sts'", ("auth_method",))
        else:
            reason = "with profile = 'gcp-sts', where authsvc is no client: remove it"
            yield from self.without_effect(("client_id",), reason)

    @rule
    def _names_of_google_cloud(self) -> Iterator[Fault]:
        if self.profile != "gcp-sts":
            return
        if self.audience and not self.audience.startswith(PROVIDERS):
            yield Fault(
                "is the name of an identity provider, //iam.googleapis.com/projects/…/providers/…",
                ("audience",),
            )
        if self.subject_token_type == "access_token":  # noqa: S105 - a name, no token
            yield Fault("is jwt or id_token with profile = 'gcp-sts'", ("subject_token_type",))

    @rule
    def _reaches_the_service_account(self) -> Iterator[Fault]:
        if not self.service_account and self.profile == "gcp-sts":
            yield from self.without_effect(
                ("service_account_endpoint",), "without service_account: set it, or remove this"
            )
        if self.service_account:
            url = {"service_account_endpoint": self.service_account_endpoint}
            yield from egress_faults(self, **url)
            yield from private_faults(allowed=self.allow_private_addresses, **url)
            if "?" in self.service_account_endpoint:
                yield Fault("has a query", ("service_account_endpoint",))

    @rule
    def _no_refresh_tokens(self) -> Iterator[Fault]:
        if self.profile == "entra-obo" and "offline_access" in self.scopes:
            yield Fault(
                "has no effect with offline_access: refresh tokens are not used. Remove it",
                ("scopes",),
            )

    @rule
    def _two_servers(self) -> Iterator[Fault]:
        if self.api_server is None:
            return
        if spelled_resource(self.api_server.endpoint) == spelled_resource(self.endpoint):
            yield Fault(
                "is the endpoint of the identity provider, which issues no access token for its "
                "own assertion: name that of the API's authorization server",
                ("api_server", "endpoint"),
            )
