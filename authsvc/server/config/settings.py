"""All settings of authsvc, and the rules between its tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat
from pydantic_settings import SettingsConfigDict

from authsvc.audit.settings import ServiceAuditSettings, other_setting_of
from authsvc.common.setting_rules import Fault, rule
from authsvc.common.settings import FileSettings, Resource
from authsvc.domain.record import Limits
from authsvc.net.addresses import is_local, is_taken, split
from authsvc.server.config.accepted_tokens import unregistered
from authsvc.server.config.assertions import (
    AssertionSettings,
    encryption_faults,
    issuer_faults,
)
from authsvc.server.config.callers import CallerSettings, TlsSettings
from authsvc.server.config.credentials import CredentialSettings
from authsvc.server.config.development import DevelopmentSettings
from authsvc.server.config.ext_authz import ExtAuthzSettings, ext_authz_faults
from authsvc.server.config.introspection import IntrospectionSettings
from authsvc.server.config.issuers import IssuerSettings
from authsvc.server.config.limits import LimitSettings
from authsvc.server.config.listening import listening_faults
from authsvc.server.config.metrics import MetricsSettings
from authsvc.server.config.references import credential_faults, development_faults
from authsvc.server.config.sessions import RevocationSettings, SessionSettings
from authsvc.server.config.signals import SignalSettings, signal_faults
from authsvc.server.config.store import SHARED_KINDS, StoreSettings
from authsvc.server.config.values import ListeningAddress
from authsvc.telemetry.logs import Format
from authsvc.telemetry.settings import TracingSettings
from authsvc.tokens.introspection_answers import same_issuer


class Settings(FileSettings):
    """All settings of authsvc."""

    model_config = SettingsConfigDict(env_prefix="AUTHSVC_")

    listen: ListeningAddress = Field(
        default="127.0.0.1:50051", description="host:port, or unix:/path."
    )
    resources: tuple[Resource, ...] = Field(
        default=(),
        description="Resources that any local process may resolve for, without [[callers]]: the "
        "loopback address or a Unix socket is then required.",
    )
    local_operators: bool = Field(
        default=False,
        description="Whether any local process may also list, watch and revoke sessions, beside "
        "resources. Set it where all users of the machine may.",
    )
    callers: tuple[CallerSettings, ...] = Field(
        default=(), description="Registered callers, in place of resources."
    )
    tls: TlsSettings | None = None
    issuers: tuple[IssuerSettings, ...] = Field(
        default=(), description="Trusted issuers of JWTs. At least one, or introspection."
    )
    introspection: IntrospectionSettings | None = None
    store: StoreSettings = StoreSettings()
    sessions: SessionSettings = SessionSettings()
    revocations: RevocationSettings = RevocationSettings()
    limits: LimitSettings = LimitSettings()
    credentials: CredentialSettings = CredentialSettings()
    assertions: AssertionSettings | None = None
    ext_authz: ExtAuthzSettings | None = None
    signals: SignalSettings | None = None
    metrics: MetricsSettings | None = None
    audit: ServiceAuditSettings = ServiceAuditSettings()
    tracing: TracingSettings | None = None
    max_token_bytes: int = Field(
        default=65_536, ge=1_024, le=65_536, description="Longest token that is accepted."
    )
    cached_tokens: int = Field(
        default=16_384,
        ge=1,
        description="Verified tokens in the cache, 10 KB each on average, and as many "
        "responses, 20 KB each. If they take more, fewer are cached.",
    )
    development: DevelopmentSettings | None = None
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The lowest level that is logged."
    )
    log_format: Format = Field(
        default="auto",
        description="json: one object a line. console: lines for people. auto: console on a "
        "terminal.",
    )
    allow_core_dumps: bool = Field(
        default=False,
        description="Whether a crash may dump memory, which holds tokens and keys.",
    )
    audit_file: Path | None = Field(
        default=None,
        description="A file that security events are appended to, besides the log; and calls, in "
        "place of it.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Processes that share the port. Each has its own [limits] and caches.",
    )
    drain_seconds: float = Field(
        default=0.5,
        ge=0,
        le=300,
        description="At a stop, how long it still serves and reports NOT_SERVING, so that load "
        "balancers notice.",
    )
    grace_seconds: PositiveFloat = Field(
        default=10.0, description="How long it then waits for calls in flight."
    )
    max_connection_age_seconds: float = Field(
        default=300.0,
        ge=0,
        description="Age at which a connection is closed, so that clients reconnect and new "
        "replicas get load. 0: never.",
    )

    max_connection_idle_seconds: float = Field(
        default=60.0,
        ge=0,
        description="A connection without calls is closed after one to two times this time. 0: "
        "never. `authsvc.client` closes idle connections within 40 s. Set the idle time-outs of "
        "other clients below this one.",
    )

    def session_limits(self) -> Limits:
        """The lifetimes of sessions and revocations, for the decision table."""
        kept = self.revocations.retention_seconds
        return replace(self.sessions.limits(), not_befores_kept_seconds=kept)

    def _listened_on(self, *names: str) -> dict[str, str]:
        """The addresses of ``listen`` and of tables with one that are set, by setting."""
        tables = {name: getattr(self, name) for name in names if name != "listen"}
        others = {f"{name}.listen": it.listen for name, it in tables.items() if it is not None}
        return {"listen": self.listen, **others}

    @property
    def registered_resources(self) -> frozenset[str]:
        """The resources that a caller may resolve for."""
        return frozenset(self.resources).union(*(caller.resources for caller in self.callers))

    @rule
    def _callers_are_known(self) -> Iterator[Fault]:
        if bool(self.resources) == bool(self.callers):
            yield Fault("needs either resources, for callers on this machine, or [[callers]]")
        if self.local_operators and self.callers:
            yield Fault(
                "has no effect with [[callers]]: give one of them admin = true",
                ("local_operators",),
            )
        names = [caller.name for caller in self.callers]
        if len(set(names)) < len(names):
            yield Fault("two have the same name", ("callers",))
        if self.callers and all(caller.admin for caller in self.callers):
            yield Fault("all are operators: give one of them resources", ("callers",))

    @rule
    def _calls_are_private(self) -> Iterator[Fault]:
        if not is_local(self.listen):
            if self.tls is None:
                yield Fault(
                    f"listen = {self.listen!r} can be reached from other machines and needs [tls] "
                    "and [[callers]]; or listen on 127.0.0.1 or a Unix socket"
                )
            elif not self.callers:
                yield Fault(f"listen = {self.listen!r} needs [[callers]] instead of resources")
        elif self.callers and self.tls is None and not self.listen.startswith("unix:"):
            yield Fault("needs [tls]: service tokens and certificates go over TLS alone")

    @rule
    def _certificates_are_demanded(self) -> Iterator[Fault]:
        if self.tls is not None and self.tls.client_ca_file is not None:
            return
        for position, caller in enumerate(self.callers):
            if caller.certificate_names:
                yield Fault("needs tls.client_ca_file", ("callers", position, "certificate_names"))

    @rule
    def _workers_can_share(self) -> Iterator[Fault]:
        if self.workers > 1 and self.listen.startswith("unix:"):
            yield Fault("workers > 1 needs a port to share, such as listen = 127.0.0.1:50051")

    @rule
    def _workers_share_a_store(self) -> Iterator[Fault]:
        if self.workers > 1 and self.store.kind not in SHARED_KINDS:
            kinds = " or ".join(SHARED_KINDS)
            yield Fault(f"workers > 1 needs a store that they share: {kinds}")

    @rule
    def _workers_have_ports(self) -> Iterator[Fault]:
        if self.metrics is not None and split(self.metrics.listen)[1] + self.workers > 65_536:
            yield Fault("its port plus the number of workers exceeds 65535", ("metrics", "listen"))

    @rule
    def _some_tokens_are_valid(self) -> Iterator[Fault]:
        if not self.issuers and self.introspection is None:
            yield Fault("needs [[issuers]] or [introspection]: without them no token is valid")

    @rule
    def _issuers_are_distinct(self) -> Iterator[Fault]:
        names = [issuer.issuer for issuer in self.issuers]
        if len(set(names)) < len(names):
            yield Fault("two have the same issuer", ("issuers",))

    @rule
    def _introspected_issuer_is_one(self) -> Iterator[Fault]:
        asked = self.introspection
        if asked is None:
            return
        same = [it.issuer for it in self.issuers if same_issuer(it.issuer, asked.issuer)]
        if not same:
            return
        if asked.issuer not in same:
            # Two names would make two subjects of each user.
            yield Fault(
                f"is {asked.issuer}, and {same[0]} in [[issuers]]: they differ in the slash at the "
                "end; write both as its JWTs have it in claim iss",
                ("introspection", "issuer"),
            )
        if asked.tokens == "all":
            yield Fault(
                f"introspection.tokens = 'all' leaves no tokens of {asked.issuer} for its "
                "[[issuers]] table: remove the table, or set tokens = 'opaque'"
            )
        elif "tokens" not in asked.model_fields_set:
            yield Fault(
                f"{asked.issuer} is in [[issuers]] and in [introspection]: set "
                "introspection.tokens = 'opaque' to verify its JWTs by its keys and introspect its "
                "opaque tokens, or remove its [[issuers]] table and set tokens = 'all'"
            )

    @rule
    def _issuers_name_resources(self) -> Iterator[Fault]:
        for position, issuer in enumerate(self.issuers):
            yield from unregistered(issuer, self.registered_resources, ("issuers", position))

    @rule
    def _introspection_names_resources(self) -> Iterator[Fault]:
        if self.introspection is not None:
            yield from unregistered(
                self.introspection, self.registered_resources, ("introspection",)
            )

    @rule
    def _credentials_name_both(self) -> Iterator[Fault]:
        issuers = {issuer.issuer for issuer in self.issuers}
        if self.introspection is not None:
            issuers.add(self.introspection.issuer)
        yield from credential_faults(self.credentials, self.registered_resources, issuers)

    @rule
    def _gateways_ask_for_known_resources(self) -> Iterator[Fault]:
        if self.ext_authz is not None:
            yield from ext_authz_faults(
                self.ext_authz,
                self.registered_resources,
                self.credentials,
                has_assertions=self.assertions is not None,
            )

    @rule
    def _development_tokens_are_accepted(self) -> Iterator[Fault]:
        if self.development is not None:
            yield from development_faults(self.development, self.issuers, self.registered_resources)

    @rule
    def _audit_format_has_a_file(self) -> Iterator[Fault]:
        if self.audit.format != "json" and self.audit_file is None:
            yield Fault("is the format of audit_file: set audit_file, too", ("audit", "format"))

    @rule
    def _audit_file_is_for_events_alone(self) -> Iterator[Fault]:
        if self.audit_file is None:
            return
        if other := other_setting_of(self.audit_file, self, "audit_file"):
            yield Fault(f"is the file of {other}, too: choose another one", ("audit_file",))

    @rule
    def _audited_calls_are_seen(self) -> Iterator[Fault]:
        if self.audit.calls != "off" and self.ext_authz is None:
            yield Fault(
                "needs [ext_authz]: authsvc sees the calls that gateways ask about, and no other; "
                "a server with SessionGate audits its own",
                ("audit", "calls"),
            )

    @rule
    def _idle_connections_are_closed(self) -> Iterator[Fault]:
        if self.max_connection_age_seconds:
            yield from self.unreached("max_connection_idle_seconds", "max_connection_age_seconds")

    @rule
    def _metrics_have_a_port(self) -> Iterator[Fault]:
        if self.metrics is not None and is_taken(self.metrics.listen, self.listen):
            yield Fault("is the address of listen: choose another port", ("metrics", "listen"))

    @rule
    def _assertions_have_a_port(self) -> Iterator[Fault]:
        if self.assertions is not None:
            yield from listening_faults(
                "assertions",
                self.assertions.listen,
                self._listened_on("listen", "metrics"),
                has_tls=self.tls is not None,
                reason="verifiers trust the keys that they get from it",
            )

    @rule
    def _signals_have_a_port(self) -> Iterator[Fault]:
        if self.signals is not None:
            yield from listening_faults(
                "signals",
                self.signals.listen,
                self._listened_on("listen", "metrics", "assertions"),
                has_tls=self.tls is not None,
                reason="logout tokens and the Authorization of pushes are secrets",
            )

    @rule
    def _signals_are_of_known_issuers(self) -> Iterator[Fault]:
        if self.signals is not None:
            introspected = {self.introspection.issuer} if self.introspection is not None else set()
            yield from signal_faults(
                self.signals, {item.issuer for item in self.issuers}, introspected
            )

    @rule
    def _assertions_are_not_tokens(self) -> Iterator[Fault]:
        if self.assertions is not None:
            introspected = [self.introspection.issuer] if self.introspection is not None else []
            issuers = [item.issuer for item in self.issuers]
            yield from issuer_faults(self.assertions, [*issuers, *introspected])

    @rule
    def _assertion_keys_are_encrypted(self) -> Iterator[Fault]:
        if self.assertions is not None:
            yield from encryption_faults(
                self.assertions, self.store.kind, is_shared=self.store.kind in SHARED_KINDS
            )
