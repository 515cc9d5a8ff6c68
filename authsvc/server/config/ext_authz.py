"""``[ext_authz]``: checks of gateways, such as Envoy, and what is configured for each resource."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from authsvc.common.formats import check_issuer, check_scope
from authsvc.common.setting_rules import Fault, rule
from authsvc.common.settings import Resource, Table
from authsvc.gateways.places import Place, plain_path
from authsvc.http_auth.rate_limit_settings import RateLimitSettings, rate_limit_faults
from authsvc.net.hosts import Authority, read_authority
from authsvc.server.config.accepted_tokens import UNREGISTERED
from authsvc.server.config.conditions import CredentialName
from authsvc.server.config.credentials import CredentialSettings
from authsvc.server.config.values import HeaderName, NonEmpty


def _host(text: str) -> str:
    if text != text.lower() or read_authority(text, "") is None:
        raise ValueError("is a host in lower case like mcp.example.com or mcp.example.com:8443")
    return text


def _path(text: str) -> str:
    if text and (plain_path(text) != text or set("?#;*") & set(text) or not text.isprintable()):
        raise ValueError(
            "is a path like /files, as it is after decoding, without //, /./, /../, %, ?, #, ; "
            "and *"
        )
    return text


Scope = Annotated[str, AfterValidator(check_scope)]

ADOPT_SESSIONS = (
    "Whether a session id that the upstream has minted is adopted at its first use with a token "
    "(docs/security.md). false: the upstream keeps no sessions, and authsvc mints their ids."
)


class ExtAuthzRoute(Table):
    """``[[ext_authz.routes]]``: one resource behind gateways."""

    NAMED_BY: ClassVar[str] = "resource"

    resource: Resource = Field(description="Its canonical URI, the audience of its tokens.")
    hosts: tuple[Annotated[str, AfterValidator(_host)], ...] = Field(
        default=(),
        description="Where clients reach it, if its gateway's route does not name it in "
        "context_extensions. Each with its port unless that is the scheme's default. Default: the "
        "resource's host.",
    )
    path: Annotated[str, AfterValidator(_path)] = Field(
        default="",
        description="Its path on these hosts, with all below it. Default: the resource's path.",
    )
    adopt_sessions: bool | None = Field(
        default=None, description=f"{ADOPT_SESSIONS} Default: ext_authz.adopt_sessions."
    )
    open_methods: tuple[NonEmpty, ...] | None = Field(
        default=None,
        description="MCP methods that need no token, beside notifications. Default: initialize, "
        "ping, server/discover, logging/setLevel, and the lists of tools, prompts and resources.",
    )
    scopes: tuple[Scope, ...] = Field(
        default=(), description="Scopes that each request needs that is not open."
    )
    tools: dict[NonEmpty, tuple[Scope, ...]] = Field(
        default={}, description="Further scopes that calls of a tool need, by tool."
    )
    rate_limits: tuple[RateLimitSettings, ...] = Field(
        default=(),
        description="Limits that its calls count towards, beside those of [limits]; at most 16.",
    )
    authorization_servers: tuple[Annotated[str, AfterValidator(check_issuer)], ...] = Field(
        default=(),
        description="Issuers of its tokens: checks then answer with its metadata (RFC 9728), and "
        "challenges name that.",
    )
    credentials: bool = Field(
        default=False,
        description="Whether the upstream gets the caller's credentials, in x-authsvc-credentials. "
        "Without it, none are issued.",
    )
    credential_name: CredentialName = Field(
        default="",
        description="The name of these credentials in [credentials]. Default: those of the "
        "resource without a name.",
    )
    routing_headers: bool = Field(
        default=False,
        description="Whether Mcp-Method and Mcp-Name (2026-07-28) name the call where the gateway "
        "does not send the body. Only for an upstream that compares them with the body. Without "
        "it, such a POST needs a token and all scopes.",
    )

    audited_arguments: dict[NonEmpty, tuple[NonEmpty, ...]] = Field(
        default={},
        description="By tool, the arguments of its calls that are in the audit (docs/audit.md), as "
        "they are sent: none that may hold a secret. Texts and numbers alone are audited.",
    )

    @rule
    def _a_name_needs_credentials(self) -> Iterator[Fault]:
        if not self.credentials:
            yield from self.without_effect(
                ("credential_name",), "without credentials = true: set it, or remove this"
            )

    @rule
    def _tools_need_scopes(self) -> Iterator[Fault]:
        for tool, scopes in self.tools.items():
            if not scopes:
                yield Fault("names no scope: name one, or remove it", ("tools", tool))

    @rule
    def _limits_are_distinct(self) -> Iterator[Fault]:
        yield from rate_limit_faults(self.rate_limits)


class ExtAuthzSettings(Table):
    """``[ext_authz]``: answers the checks of gateways (docs/gateways.md). Needs [assertions]."""

    adopt_sessions: bool = Field(default=True, description=ADOPT_SESSIONS)
    ext_mcp: bool = Field(
        default=False,
        description="Whether agentgateway's MCP guardrails are answered as well "
        "(agentgateway.dev.ext_mcp.ExtMcp). Their sessions are always adopted.",
    )
    client_address_header: HeaderName = Field(
        default="",
        description="The header in which gateways tell a client's address, for the limits of each "
        "client (docs/gateways.md), such as x-envoy-external-address. Every gateway must replace "
        "it. Default: the address that the request came to the gateway from.",
    )
    routes: tuple[ExtAuthzRoute, ...] = Field(
        default=(),
        description="Resources that are found by host and path, or that differ from the defaults.",
    )

    @rule
    def _resources_are_distinct(self) -> Iterator[Fault]:
        seen: set[str] = set()
        for position, route in enumerate(self.routes):
            if route.resource in seen:
                yield Fault("another route has it", ("routes", position, "resource"))
            seen.add(route.resource)

    @rule
    def _places_are_distinct(self) -> Iterator[Fault]:
        taken: dict[tuple[Authority, str], str] = {}
        for position, route in enumerate(self.routes):
            place = Place.of(route.resource, route.hosts, route.path)
            for authority in place.authorities:
                other = taken.setdefault((authority, place.path), route.resource)
                if other != route.resource:
                    yield Fault(
                        f"is where {other} is: give one of them other hosts or another path",
                        ("routes", position),
                    )


def ext_authz_faults(
    table: ExtAuthzSettings,
    resources: AbstractSet[str],
    credentials: CredentialSettings,
    *,
    has_assertions: bool,
) -> Iterator[Fault]:
    """Faults between it and other tables.

    Args:
        table: the settings.
        resources: that a caller may resolve for.
        credentials: that routes may name.
        has_assertions: whether ``[assertions]`` is set.
    """
    if not has_assertions:
        yield Fault("needs [assertions]: upstreams learn from them who is asking", ("ext_authz",))
    for position, route in enumerate(table.routes):
        if route.resource not in resources:
            yield Fault(UNREGISTERED, ("ext_authz", "routes", position, "resource"))
        name = route.credential_name
        if name and not credentials.has(name, route.resource):
            yield Fault(
                f"no table of [credentials] has name = {name!r} and {route.resource} in its "
                "resources",
                ("ext_authz", "routes", position, "credential_name"),
            )
