"""The adapter's settings: a TOML file, and ``MCP_ADAPTER_…`` variables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt
from pydantic_settings import SettingsConfigDict

from authsvc.audit.settings import AuditFileSettings, other_setting_of
from authsvc.client.settings import AuthsvcAddress
from authsvc.client.targets import Targets
from authsvc.common.formats import (
    check_host,
    check_issuer,
    check_listening,
    check_origin,
    check_peer,
    check_scope,
)
from authsvc.common.setting_rules import Fault, rule
from authsvc.common.settings import FileSettings, Resource, Table
from authsvc.http_auth.rate_limit_settings import RateLimitSettings, rate_limit_faults
from authsvc.http_server.settings import DEFAULT_KEEP_ALIVE_SECONDS, ConnectionSettings
from authsvc.net.addresses import is_taken
from authsvc.net.hosts import EVERY
from authsvc.net.peers import UNIX
from authsvc.net.urls import read
from authsvc.telemetry.logs import Format
from authsvc.telemetry.settings import TracingSettings
from mcp_adapter.gate.middleware import DEFAULT_MAX_ANONYMOUS_BODY_BYTES, DEFAULT_MAX_BODY_BYTES
from mcp_adapter.gate.origins import LOOPBACK_ORIGINS
from mcp_adapter.tools.settings import S3Settings, ToolsSettings

Scope = Annotated[str, AfterValidator(check_scope)]

_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,127}")


def _check_proxy(peer: str) -> str:
    if peer == UNIX:
        raise ValueError("is an address or a network: the adapter listens on no Unix socket")
    return check_peer(peer)


def _check_header(name: str) -> str:
    if name and not _HEADER.fullmatch(name):
        raise ValueError("is the name of a header, in lower case")
    return name


OTHER_PATHS = ("/healthz", "/readyz")
"""Paths of the adapter that are no part of MCP."""


class AuthsvcSettings(AuthsvcAddress):
    """``[authsvc]``: the address of authsvc, and how the adapter authenticates to it."""

    ca_file: Path | None = Field(
        default=None,
        description="PEM certificates of the authorities that sign authsvc's certificate. If it is "
        "set, the connection uses TLS.",
    )
    deadline_seconds: PositiveFloat = Field(
        default=2.0, description="Time for one call, connecting and retries included."
    )

    @rule
    def _is_safe(self) -> Iterator[Fault]:
        if self.ca_file is not None:
            return
        if not Targets.parse(self.target).on_this_machine:
            yield Fault(
                f"target {self.target!r} is not on this machine, so tokens would cross the network "
                "in the clear: for TLS set ca_file, and certificate_file with key_file or "
                "service_token_file"
            )
        elif self.certificate_file or self.service_token_file:
            yield Fault("certificate_file and service_token_file need ca_file")


class MetricsSettings(Table):
    """``[metrics]``: Prometheus metrics at ``/metrics``, without TLS."""

    listen: Annotated[str, AfterValidator(check_listening)] = Field(
        default="127.0.0.1:9564", description="host:port."
    )


class Settings(FileSettings):
    """All settings of the adapter."""

    model_config = SettingsConfigDict(env_prefix="MCP_ADAPTER_")

    listen: Annotated[str, AfterValidator(check_listening)] = Field(
        default="127.0.0.1:8000", description="host:port."
    )
    resource: Resource = Field(
        description="Canonical URI of the endpoint as clients know it: the audience of its tokens."
    )
    authorization_servers: tuple[Annotated[str, AfterValidator(check_issuer)], ...] = Field(
        min_length=1, description="Issuers of its tokens, in the metadata that clients read."
    )
    implied_scopes: dict[Scope, tuple[Scope, ...]] = Field(
        default={}, description="By broader scope, the scopes that it implies."
    )
    rate_limits: tuple[RateLimitSettings, ...] = Field(
        default=(),
        description="Limits that calls count towards, beside those of authsvc's [limits]; at most "
        "16.",
    )
    authsvc: AuthsvcSettings = AuthsvcSettings()
    s3: S3Settings = S3Settings()
    tools: ToolsSettings = ToolsSettings()
    metrics: MetricsSettings | None = None
    tracing: TracingSettings | None = None
    audit: AuditFileSettings = AuditFileSettings()
    connections: ConnectionSettings = ConnectionSettings()
    allowed_hosts: tuple[Annotated[str, AfterValidator(check_host)], ...] = Field(
        default=(),
        description="Host values besides the resource's own and loopback ones: mcp.example.com, "
        "with :port or :*; *.example.com for all names below it. * allows any: set it only behind "
        "a proxy that checks Host, or pages of any site reach the server by DNS rebinding.",
    )
    allowed_origins: tuple[Annotated[str, AfterValidator(check_origin)], ...] = Field(
        default=LOOPBACK_ORIGINS,
        description="Origins of pages that may call, besides its own, of any scheme, such as "
        "app://name; with :port or :*. null is any page without an origin, and every site can "
        "make one.",
    )
    trusted_proxies: tuple[Annotated[str, AfterValidator(_check_proxy)], ...] = Field(
        default=(),
        description="Addresses and networks of proxies whose Forwarded or X-Forwarded-Host is "
        "checked in place of Host. Each must set that header itself, in place of what a client "
        "sent.",
    )
    client_address_header: Annotated[str, AfterValidator(_check_header)] = Field(
        default="",
        description="The header in which trusted_proxies report a client's address, for the audit, "
        "such as x-forwarded-for. Each must set it, or append to it. Default: the address of the "
        "connection.",
    )
    max_body_bytes: PositiveInt = Field(
        default=DEFAULT_MAX_BODY_BYTES, description="Longest body that is read."
    )
    max_anonymous_body_bytes: PositiveInt = Field(
        default=DEFAULT_MAX_ANONYMOUS_BODY_BYTES,
        description="Longest body that is read before its token is verified.",
    )
    body_timeout_seconds: PositiveFloat = Field(
        default=30.0, description="Timeout for a request's body to arrive."
    )
    filter_lists: bool = Field(
        default=False,
        description="Whether tools/list holds only tools that the caller's scopes allow. Clients "
        "that ask for access only when a call needs it find no tool then.",
    )
    keep_alive_seconds: PositiveFloat = Field(
        default=DEFAULT_KEEP_ALIVE_SECONDS,
        description="How long a connection may be idle after a response. Set it longer than a "
        "proxy in front keeps idle connections.",
    )
    grace_seconds: PositiveInt = Field(
        default=10, description="How long a stop waits for requests in flight."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The lowest level that is logged."
    )
    log_format: Format = Field(
        default="auto",
        description="One JSON object a line, or lines for people; auto: for people on a terminal.",
    )
    allow_core_dumps: bool = Field(
        default=False,
        description="Whether a crash may dump memory, which holds tokens and keys.",
    )

    @rule
    def _audit_file_is_for_events_alone(self) -> Iterator[Fault]:
        if self.audit.file is None:
            return
        if other := other_setting_of(self.audit.file, self, "audit.file"):
            yield Fault(f"is the file of {other}, too: choose another one", ("audit", "file"))

    @rule
    def _late_bodies_are_answered(self) -> Iterator[Fault]:
        if self.connections.request_timeout_seconds <= self.body_timeout_seconds:
            yield Fault(
                "connections.request_timeout_seconds has to be longer than body_timeout_seconds, "
                "or clients are disconnected before they are answered"
            )

    @rule
    def _hosts_count(self) -> Iterator[Fault]:
        if EVERY in self.allowed_hosts and (self.trusted_proxies or len(self.allowed_hosts) > 1):
            yield Fault(
                "allowed_hosts has *, which allows every Host: its other values, and "
                "trusted_proxies, have no effect"
            )

    @rule
    def _clients_are_behind_proxies(self) -> Iterator[Fault]:
        if self.client_address_header and not self.trusted_proxies:
            yield Fault(
                "has no effect without trusted_proxies: name the proxies that set it",
                ("client_address_header",),
            )

    @rule
    def _anonymous_bodies_are_shorter(self) -> Iterator[Fault]:
        yield from self.unreached("max_anonymous_body_bytes", "max_body_bytes")

    @rule
    def _scopes_imply_others(self) -> Iterator[Fault]:
        for broader, scopes in self.implied_scopes.items():
            if not {*scopes} - {broader}:
                yield Fault(
                    "implies no other scope: name one, or remove it", ("implied_scopes", broader)
                )

    @rule
    def _metrics_have_a_port(self) -> Iterator[Fault]:
        if self.metrics is not None and is_taken(self.metrics.listen, self.listen):
            yield Fault("is the address of listen: choose another port", ("metrics", "listen"))

    @rule
    def _path_is_free(self) -> Iterator[Fault]:
        bare = self.endpoint.rstrip("/")
        if bare in OTHER_PATHS or bare.startswith("/.well-known") or "%" in bare:
            yield Fault(
                f"resource has the path {self.endpoint}: the adapter serves MCP at a path of its "
                f"own, which is none of {', '.join(OTHER_PATHS)} and /.well-known/, and has no %"
            )

    @rule
    def _limits_are_distinct(self) -> Iterator[Fault]:
        yield from rate_limit_faults(self.rate_limits)

    @property
    def endpoint(self) -> str:
        """The path of the MCP endpoint, which is the resource's."""
        return read(self.resource).path or "/"
