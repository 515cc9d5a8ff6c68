"""authsvc's settings: a TOML file, and ``AUTHSVC_…`` variables (``__`` between nested names)."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, model_validator
from pydantic_settings import SettingsConfigDict

from authsvc.access.limits import MAX_CONCURRENT_CALLS, CallerLimits
from authsvc.common.arguments import (
    check_endpoint,
    check_issuer,
    check_line,
    check_listening,
    check_node,
    check_scope,
    check_uri,
)
from authsvc.common.settings import FileSettings, Resource, Table
from authsvc.domain.sessions import Limits
from authsvc.net.addresses import is_listening_address, is_local
from authsvc.stores import STALENESS_BOUND_SECONDS
from authsvc.stores.redis.server import RedisServer, server_at
from authsvc.telemetry.logs import Format
from authsvc.telemetry.settings import TracingSettings

_DEFAULTS = Limits()
_CALLER = CallerLimits()

Algorithm = Literal["HS256", "RS256", "PS256", "ES256", "EdDSA"]


def _listening_address(address: str) -> str:
    if address.startswith("unix:") and address != "unix:":
        return check_line(address)
    if not is_listening_address(address):
        raise ValueError(
            "is an address like 127.0.0.1:50051 or unix:/run/authsvc.sock, the port from 0 to "
            "65535, an IPv6 address in brackets"
        )
    return address


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


ListeningAddress = Annotated[str, AfterValidator(_listening_address)]
HostAndPort = Annotated[str, AfterValidator(check_node)]
EndpointUrl = Annotated[str, AfterValidator(check_endpoint)]
Line = Annotated[str, AfterValidator(check_line)]
NonEmpty = Annotated[str, Field(min_length=1), AfterValidator(check_line)]
RoleArn = Annotated[
    str, Field(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/[A-Za-z0-9_+=,.@/-]{1,576}$")
]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class StoreSettings(Table):
    """``[store]``: where session records live."""

    kind: Literal["sqlite", "redis", "memory"] = Field(
        default="sqlite", description="sqlite for one machine, redis (or Valkey) for many."
    )
    path: Path = Field(
        default=Path("var/authsvc.db"), description="The database file of the sqlite store."
    )
    mode: Literal["single", "sentinel", "cluster"] = Field(
        default="single", description="What the redis store is made of."
    )
    url: str = Field(
        default="redis://127.0.0.1:6379/0",
        description="The single node: redis://, rediss:// (TLS) or unix:, without a password.",
    )
    nodes: tuple[HostAndPort, ...] = Field(
        default=(), description="Some nodes of the cluster; it tells of the others."
    )
    sentinels: tuple[HostAndPort, ...] = Field(default=(), description="The sentinels.")
    service: NonEmpty = Field(
        default="authsvc", description="The name by which the sentinels know the server."
    )
    username: Line = Field(default="", description="ACL user, with sentinel and cluster.")
    password_file: Path | None = Field(
        default=None, description="Its password; read again at each connection."
    )
    ca_file: Path | None = Field(
        default=None, description="Who signed the server's certificate; set, TLS is used."
    )
    certificate_file: Path | None = Field(
        default=None, description="Our own certificate, where the server wants one."
    )
    key_file: Path | None = Field(default=None, description="Its key.")
    acknowledge_replicas: int = Field(
        default=0,
        ge=0,
        description="Replicas of the store that have to confirm a write before it is acknowledged. "
        "At least 1 with sentinel or cluster, or a failover may lose a revocation.",
    )
    timeout_seconds: PositiveFloat = Field(
        default=1.0, description="How long one exchange with the redis store may take."
    )
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = Field(
        default="authsvc", description="What all its keys begin with."
    )
    feed_bound_seconds: float = Field(
        default=STALENESS_BOUND_SECONDS,
        gt=0.2,
        le=STALENESS_BOUND_SECONDS,
        description="How old a replica's memory may be to be answered from.",
    )
    cached_sessions: int = Field(
        default=100_000,
        ge=1,
        description="Records cached in memory, 1.3 KB each; where they take more than 2.6 KB "
        "on average, fewer are.",
    )
    events_kept: int = Field(
        default=100_000,
        ge=1_000,
        description="Events that a watcher may still resume from; in memory, fewer where they take "
        "more than 2.6 KB on average.",
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.kind == "redis":
            self.redis_server()
        return self

    def redis_server(self) -> RedisServer:
        """The server of the redis store.

        Raises:
            ValueError: the settings do not say which.
        """
        if self.mode == "single":
            try:
                server = server_at(self.url)
            except ValueError as error:
                raise ValueError(f"url {error}") from None
        else:
            setting = "nodes" if self.mode == "cluster" else "sentinels"
            nodes = self.nodes if self.mode == "cluster" else self.sentinels
            if not nodes:
                raise ValueError(f"mode = {self.mode!r} needs {setting}")
            server = RedisServer(mode=self.mode, nodes=tuple(map(_host_and_port, nodes)))
        return replace(
            server,
            service=self.service,
            username=self.username or server.username,
            password_file=self.password_file,
            tls=server.tls or self.ca_file is not None,
            ca_file=self.ca_file,
            certificate_file=self.certificate_file,
            key_file=self.key_file,
            acknowledge_replicas=self.acknowledge_replicas,
            timeout_seconds=self.timeout_seconds,
        )


class SessionSettings(Table):
    """``[sessions]``: how long sessions last, and how many may be unauthenticated."""

    unauthenticated_idle_seconds: PositiveFloat = Field(
        default=_DEFAULTS.unauthenticated_idle_seconds,
        description="How long a session without an identity lasts unused.",
    )
    authenticated_idle_seconds: PositiveFloat = Field(
        default=_DEFAULTS.authenticated_idle_seconds,
        description="How long one with an identity does.",
    )
    absolute_seconds: PositiveFloat = Field(
        default=_DEFAULTS.absolute_seconds,
        description="How long any session lasts, however much it is used.",
    )
    tombstone_seconds: PositiveFloat = Field(
        default=_DEFAULTS.tombstone_seconds,
        description="How long a revoked one is told to be revoked, and not unknown.",
    )
    unauthenticated_cap: int = Field(
        default=10_000, ge=1, description="Beyond it the unauthenticated ones made first go."
    )

    def limits(self) -> Limits:
        """The same, for the decision table."""
        return Limits(
            unauthenticated_idle_seconds=self.unauthenticated_idle_seconds,
            authenticated_idle_seconds=self.authenticated_idle_seconds,
            absolute_seconds=self.absolute_seconds,
            tombstone_seconds=self.tombstone_seconds,
        )


class RevocationSettings(Table):
    """``[revocations]``: how long what operators have cut off stays cut off."""

    kept_seconds: PositiveFloat = Field(
        default=_DEFAULTS.cutoffs_kept_seconds,
        description="Tokens that were issued longer ago are refused: they may have been revoked.",
    )


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


class IntrospectionSettings(Table):
    """``[introspection]``: the issuer of opaque tokens, which is asked what they are (RFC 7662)."""

    issuer: NonEmpty = Field(description="Claim iss of its tokens.")
    endpoint: EndpointUrl = Field(description="Its introspection endpoint, https.")
    client_id: NonEmpty = Field(description="Our name there.")
    client_secret_file: Path = Field(description="Our secret there; followed when it changes.")
    allow_private_addresses: bool = Field(
        default=False, description="Whether its address may be one that is not public."
    )
    audiences: dict[Resource, tuple[NonEmpty, ...]] = Field(
        default={}, description="What aud may be, by resource; else the resource itself."
    )
    leeway_seconds: float = Field(default=30.0, ge=0, le=300, description="Clock skew allowed.")
    profile: Literal["standard", "quilt"] = Field(
        default="standard",
        description="How its claims become a principal; quilt: the original system's.",
    )
    subject_claim: Literal["sub", "id"] = Field(
        default="sub", description="Which claim is the subject."
    )


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


class LimitSettings(Table):
    """``[limits]``: what each caller may ask for. Rates are per second."""

    calls_per_second: PositiveFloat = Field(
        default=_CALLER.calls_per_second,
        description="Calls of one caller, resolves on a stream among them.",
    )
    calls_burst: float = Field(default=_CALLER.calls_burst, ge=1, description="At once.")
    max_concurrent_calls_per_caller: int = Field(
        default=_CALLER.max_concurrent_calls_per_caller,
        ge=2,
        description="In flight. An open stream is one, each resolve on it another.",
    )
    max_streams_per_caller: int = Field(
        default=_CALLER.max_streams_per_caller,
        ge=1,
        description="Streams that it may have open: `ResolveSessionStream`, watches, reflection.",
    )
    rejected_tokens_per_second: PositiveFloat = Field(
        default=_CALLER.rejected_tokens_per_second,
        description="Beyond it, tokens that are not known yet are rejected unseen.",
    )
    rejected_tokens_burst: float = Field(
        default=_CALLER.rejected_tokens_burst, ge=1, description="At once."
    )
    anonymous_sessions_per_second: PositiveFloat = Field(
        default=_CALLER.anonymous_sessions_per_second,
        description="Sessions created without a token.",
    )
    anonymous_sessions_burst: float = Field(
        default=_CALLER.anonymous_sessions_burst, ge=1, description="At once."
    )
    max_concurrent_calls: int = Field(
        default=MAX_CONCURRENT_CALLS,
        ge=2,
        description="In flight, all callers together; half of it is reserved for known callers, in "
        "equal shares.",
    )
    max_connections: int = Field(
        default=2_000,
        ge=1,
        description="Open at once, those of unknown callers and unfinished handshakes among them; "
        "of each worker. New ones beyond it are closed. Lowered to what the process may open "
        "(RLIMIT_NOFILE, hard).",
    )
    max_concurrent_streams_per_connection: int = Field(
        default=100,
        ge=1,
        le=100_000,
        description="Calls and streams at once on one connection; clients queue what is more.",
    )
    max_unauthenticated_calls: int = Field(
        default=1_000,
        ge=1,
        description="Calls that wait for their request before it is known who calls. Beyond it, "
        "calls without a known caller are rejected as they begin. Also refused calls, and answers "
        "of `Health/Check`, that their clients have not taken.",
    )
    request_timeout_seconds: PositiveFloat = Field(
        default=10.0,
        description="How long a known caller's call may wait for its request then.",
    )

    def caller_limits(self) -> CallerLimits:
        """The same, for each caller."""
        names = {field.name for field in fields(CallerLimits)}
        return CallerLimits(**self.model_dump(include=names))


class TlsSettings(Table):
    """``[tls]``: required wherever another machine can reach authsvc."""

    certificate_file: Path = Field(description="PEM chain, the server's own first.")
    key_file: Path = Field(description="Its key, PEM.")
    client_ca_file: Path | None = Field(
        default=None, description="Who signs callers' certificates; set, each has to show one."
    )


class CallerSettings(Table):
    """``[[callers]]``: somebody who may call, and how it proves that it is the one."""

    name: NonEmpty = Field(description="For logs and metrics.")
    resources: tuple[Resource, ...] = Field(
        default=(), description="Canonical URIs of the MCP servers that it may resolve for."
    )
    admin: bool = Field(
        default=False, description="An operator: may call SessionAdminService, and that alone."
    )
    certificate_names: tuple[NonEmpty, ...] = Field(
        default=(), description="DNS or URI names in its client certificate."
    )
    service_token_files: tuple[Path, ...] = Field(
        default=(),
        description="Its service tokens, 32 characters or more, made by chance; two while one "
        "replaces the other. A changed file counts at once, a removed one ends its token.",
    )
    service_token_sha256: tuple[Sha256, ...] = Field(
        default=(), description="The same, by their SHA-256 in hexadecimal."
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if not (self.certificate_names or self.service_token_files or self.service_token_sha256):
            raise ValueError(
                "needs certificate_names or a service token: service_token_files or "
                "service_token_sha256"
            )
        if self.admin == bool(self.resources):
            raise ValueError("needs resources, or admin = true without any")
        return self


class MetricsSettings(Table):
    """``[metrics]``: there, Prometheus is answered at ``/metrics``, in the clear."""

    listen: Annotated[str, AfterValidator(check_listening)] = Field(
        default="127.0.0.1:9464",
        description="host:port; the second of several workers listens on the next port, and so on.",
    )


class DevelopmentSettings(Table):
    """``[development]``: what ``authsvc token`` mints where a flag is absent."""

    issuer: NonEmpty = Field(description="One of the issuers, with a secret_file.")
    audience: Resource = Field(description="What aud is unless it is given.")
    roles: tuple[str, ...] = Field(default=(), description="The same for roles.")
    buckets: tuple[str, ...] = Field(default=(), description="The same for buckets.")
    permissions: tuple[str, ...] = Field(default=(), description="The same for permissions.")
    scopes: tuple[str, ...] = Field(default=(), description="The same for scopes.")


class Settings(FileSettings):
    """All settings of authsvc."""

    model_config = SettingsConfigDict(env_prefix="AUTHSVC_")

    listen: ListeningAddress = Field(
        default="127.0.0.1:50051", description="host:port, or unix:/path."
    )
    resources: tuple[Resource, ...] = Field(
        default=(),
        description="What whoever reaches the loopback address or Unix socket may resolve for.",
    )
    callers: tuple[CallerSettings, ...] = Field(
        default=(), description="Who may call, instead of resources."
    )
    tls: TlsSettings | None = None
    issuers: tuple[IssuerSettings, ...] = Field(
        default=(), description="Whose JWTs are good. At least one, or introspection."
    )
    introspection: IntrospectionSettings | None = None
    store: StoreSettings = StoreSettings()
    sessions: SessionSettings = SessionSettings()
    revocations: RevocationSettings = RevocationSettings()
    limits: LimitSettings = LimitSettings()
    credentials: CredentialSettings = CredentialSettings()
    metrics: MetricsSettings | None = None
    tracing: TracingSettings | None = None
    max_token_bytes: int = Field(
        default=65_536, ge=1_024, le=65_536, description="Longest token that is looked at."
    )
    known_tokens: int = Field(
        default=16_384,
        ge=1,
        description="Verified tokens that are cached, 10 KB each on average, and as many "
        "answers, 20 KB each: where they take more, fewer are kept.",
    )
    development: DevelopmentSettings | None = None
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="What is logged at least."
    )
    log_format: Format = Field(
        default="auto",
        description="One JSON object a line, or lines for people; auto: for people on a terminal.",
    )
    allow_core_dumps: bool = Field(
        default=False,
        description="Whether a crash may write down memory, which has tokens and keys in it.",
    )
    audit_file: Path | None = Field(
        default=None, description="Where security events go, besides the log. Appended to."
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Processes that share the port; [limits] and caches are each one's own.",
    )
    drain_seconds: float = Field(
        default=0.5,
        ge=0,
        le=300,
        description="How long a stop says NOT_SERVING and serves, so that load goes elsewhere.",
    )
    grace_seconds: PositiveFloat = Field(
        default=10.0, description="How long it then waits for what is in flight."
    )
    max_connection_age_seconds: float = Field(
        default=300.0,
        ge=0,
        description="After it a client connects anew, so that new replicas get their share; 0: "
        "never.",
    )

    max_connection_idle_seconds: float = Field(
        default=60.0,
        ge=0,
        description="A connection without a call is closed after one to two times as long, and "
        "leaves its place among max_connections; 0: never. `authsvc.client` closes its own first, "
        "within 40 s; set other clients' idle time-outs below this one.",
    )

    def session_limits(self) -> Limits:
        """How long sessions last and revocations are kept, for the decision table."""
        kept = self.revocations.kept_seconds
        return replace(self.sessions.limits(), cutoffs_kept_seconds=kept)

    @model_validator(mode="after")
    def _callers_are_known(self) -> Self:
        if bool(self.resources) == bool(self.callers):
            raise ValueError("needs either resources, for callers on this machine, or [[callers]]")
        if self.callers and self.tls is None and not self.listen.startswith("unix:"):
            raise ValueError("needs [tls]: service tokens and certificates go over TLS alone")
        if not is_local(self.listen) and self.tls is None:
            raise ValueError(
                f"listen = {self.listen!r} can be reached from other machines and needs [tls] and "
                "[[callers]]; or listen on 127.0.0.1 or a Unix socket"
            )
        if not is_local(self.listen) and not self.callers:
            raise ValueError(f"listen = {self.listen!r} needs [[callers]] instead of resources")
        for caller in self.callers:
            self._check_caller(caller)
        names = [caller.name for caller in self.callers]
        if len(set(names)) < len(names):
            raise ValueError("callers: two have the same name")
        return self

    def _check_caller(self, caller: CallerSettings) -> None:
        demands_certificates = self.tls is not None and self.tls.client_ca_file is not None
        if caller.certificate_names and not demands_certificates:
            raise ValueError(f"callers[{caller.name}].certificate_names needs tls.client_ca_file")

    @model_validator(mode="after")
    def _workers_can_share(self) -> Self:
        if self.workers > 1 and self.listen.startswith("unix:"):
            raise ValueError("workers > 1 needs a port to share: listen on 127.0.0.1:50051, say")
        if self.workers > 1 and self.store.kind == "memory":
            raise ValueError("workers > 1 needs a store that they share: sqlite or redis")
        if self.metrics is not None and _port(self.metrics.listen) + self.workers > 65_536:
            raise ValueError("metrics.listen: there is no port for each of the workers from it on")
        return self

    @model_validator(mode="after")
    def _issuers_are_distinct(self) -> Self:
        if not self.issuers and self.introspection is None:
            raise ValueError("needs [[issuers]] or [introspection], or no token is ever good")
        names = [issuer.issuer for issuer in self.issuers]
        if len(set(names)) < len(names):
            raise ValueError("issuers: two have the same issuer")
        return self
