"""``[signals]``: sign-outs and other security events that identity providers report."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, PositiveFloat

from authsvc.common.formats import check_listening
from authsvc.common.setting_rules import Fault, Location, rule
from authsvc.common.settings import Table
from authsvc.server.config.egress import (
    CA_FILE,
    PROXY,
    discovery_faults,
    egress_faults,
    private_faults,
)
from authsvc.server.config.values import (
    Algorithm,
    EndpointUrl,
    HeaderName,
    Line,
    NonEmpty,
    ProxyUrl,
    each_once,
)
from authsvc.signals.actions import Action, actions_of
from authsvc.signals.signals import MAX_AGE_SECONDS, SET_TYPES

MAX_BODY_BYTES = 65_536

_DAY_SECONDS = 86_400.0

_OF_KEYS = ("algorithms", "jwks_url", "jwks_file", "discover", "metadata_url")
_OF_REQUESTS = ("allow_private_addresses", "ca_file", "proxy")


class SignalStreamSettings(Table):
    """``[[signals.streams]]``: one identity provider whose signals are received."""

    NAMED_BY: ClassVar[str] = "issuer"

    issuer: NonEmpty = Field(
        description="Claim iss of its logout tokens and security event tokens (SETs), exactly."
    )
    audiences: Annotated[tuple[NonEmpty, ...], AfterValidator(each_once)] = Field(
        description="Accepted values of aud: client ids, of logout tokens; the receiver's id at "
        "the provider, of SETs.",
    )
    applies_to: tuple[NonEmpty, ...] = Field(
        default=(),
        description="The issuers whose tokens it may revoke. Default: issuer, which is then one "
        "of [[issuers]], or that of [introspection].",
    )
    algorithms: tuple[Algorithm, ...] = Field(
        default=(),
        description="The signature algorithms that are accepted from it, with keys of its own: as "
        "of [[issuers]], HS excepted. Without keys of its own, signals are verified with the keys "
        "and algorithms of its [[issuers]] table.",
    )
    jwks_url: EndpointUrl | None = Field(
        default=None, description="The URL of its public keys, where they are no token issuer's."
    )
    jwks_file: Path | None = Field(default=None, description="Likewise, a file with them.")
    discover: bool = Field(
        default=False, description="Likewise, whether their URL comes from its metadata."
    )
    metadata_url: EndpointUrl | None = Field(
        default=None,
        description="As discover, if its metadata is at none of the places of the specifications: "
        "the URL of it.",
    )
    allow_private_addresses: bool = Field(
        default=False, description="Whether its URLs may have private addresses."
    )
    ca_file: Path | None = Field(default=None, description=CA_FILE)
    proxy: ProxyUrl | None = Field(default=None, description=PROXY)
    keys_max_stale_seconds: PositiveFloat = Field(
        default=_DAY_SECONDS,
        description="How long fetched keys of its own stay valid while they cannot be fetched "
        "again.",
    )
    accepted_types: tuple[Line, ...] = Field(
        default=SET_TYPES,
        description="Accepted values of the header typ of SETs, for providers that send another "
        "one; none for SETs without it.",
    )
    subject_formats: tuple[Literal["email", "opaque"], ...] = Field(
        default=(),
        description="Formats of subjects whose value is claim sub of the tokens. Signals about "
        "subjects in these formats have no effect without it; iss_sub always has.",
    )
    leeway_seconds: float = Field(default=30.0, ge=0, le=300, description="Accepted clock skew.")
    max_age_seconds: float = Field(
        default=MAX_AGE_SECONDS,
        ge=60,
        le=30 * _DAY_SECONDS,
        description="How long after its iat a SET is accepted. Its jti is kept as long, so that "
        "it has an effect once.",
    )
    push_authorization_file: Path | None = Field(
        default=None,
        description="A file with the header Authorization that its pushes have to have (RFC 8935), "
        "such as Bearer and a secret. A changed file takes effect.",
    )
    poll_url: EndpointUrl | None = Field(
        default=None, description="Where its SETs are polled (RFC 8936)."
    )
    poll_authorization_file: Path | None = Field(
        default=None,
        description="A file with the header Authorization of polls. A changed file takes effect.",
    )
    verification_url: EndpointUrl | None = Field(
        default=None,
        description="Where `authsvc signals test` asks for a verification event (SSF 1.0).",
    )
    stream_id: str = Field(
        default="",
        max_length=1_024,
        description="The id that the transmitter has given to the stream: SSF 1.0 requires it in "
        "that request; some transmitters of earlier drafts have none.",
    )
    management_authorization_file: Path | None = Field(
        default=None, description="A file with the header Authorization of that request."
    )

    @rule
    def _one_source_of_keys(self) -> Iterator[Fault]:
        sources = [self.jwks_url, self.jwks_file, self.is_discovered or None]
        given = sum(item is not None for item in sources)
        if given > 1:
            yield Fault(
                "has several sources of keys: set one of jwks_url, jwks_file and discover = true "
                "(or metadata_url)"
            )
        if given and not self.algorithms:
            yield Fault("has keys of its own and needs algorithms, such as ['RS256']")
        if not given:
            yield from self.without_effect(
                ("algorithms",),
                "without jwks_url, jwks_file or discover: set one of them, or remove it",
            )
        if any(name.startswith("HS") for name in self.algorithms):
            yield Fault("HS algorithms go with secret_file of [[issuers]]", ("algorithms",))

    @rule
    def _can_be_discovered(self) -> Iterator[Fault]:
        if self.is_discovered and self.metadata_url is None:
            yield from discovery_faults(self.issuer)

    @rule
    def _requests_are_authorized(self) -> Iterator[Fault]:
        for url, file in (
            ("poll_url", "poll_authorization_file"),
            ("verification_url", "management_authorization_file"),
        ):
            if getattr(self, url) is not None and getattr(self, file) is None:
                yield Fault(f"needs {file}: what the transmitter knows authsvc by", (url,))
            if getattr(self, url) is None:
                yield from self.without_effect((file,), f"without {url}: set it, or remove this")
        if self.verification_url is None:
            yield from self.without_effect(
                ("stream_id",), "without verification_url: set it, or remove this"
            )

    @rule
    def _https_where_it_matters(self) -> Iterator[Fault]:
        yield from egress_faults(self, **self._requested)

    @rule
    def _may_be_connected_to(self) -> Iterator[Fault]:
        yield from private_faults(allowed=self.allow_private_addresses, **self._requested)

    @rule
    def _something_is_requested(self) -> Iterator[Fault]:
        if not self._requested:
            yield from self.without_effect(
                _OF_REQUESTS,
                "without jwks_url, discover, poll_url or verification_url: remove it",
            )

    @property
    def table(self) -> str:
        """Its name, for errors."""
        return f"signals.streams[{self.issuer}]"

    @property
    def has_own_keys(self) -> bool:
        """Whether it names keys, besides those of ``[[issuers]]``."""
        return any(self.is_given(name) for name in _OF_KEYS[1:])

    @property
    def is_discovered(self) -> bool:
        """Whether the URL of its keys comes from its metadata."""
        return self.discover or self.metadata_url is not None

    @property
    def key_setting(self) -> str:
        """The name of the setting that keys of its own come from."""
        return next(
            (
                name
                for name in ("jwks_file", "jwks_url", "metadata_url")
                if getattr(self, name) is not None
            ),
            "discover",
        )

    @property
    def _requested(self) -> dict[str, str]:
        """The URLs that are requested, by setting."""
        urls = {
            "jwks_url": self.jwks_url,
            "metadata_url": self.metadata_url,
            "issuer": self.issuer if self.discover and self.metadata_url is None else None,
            "poll_url": self.poll_url,
            "verification_url": self.verification_url,
        }
        return {name: url for name, url in urls.items() if url is not None}


class SignalSettings(Table):
    """``[signals]``: receives sign-outs and other security events (docs/signals.md)."""

    listen: Annotated[str, AfterValidator(check_listening)] = Field(
        default="127.0.0.1:50054",
        description="host:port of the receiver, at /signals/logout and /signals/events: over HTTP "
        "on this machine alone, else over HTTPS with the certificate of [tls]. Workers share the "
        "port.",
    )
    requests_per_second: PositiveFloat = Field(
        default=100.0,
        description="Requests of all senders together, each second, in each worker. Further ones "
        "are answered 429. Each address whose signals have been accepted has as many for itself: "
        "others cannot use them up.",
    )
    requests_burst: float = Field(default=200.0, ge=1, description="The burst of that rate.")
    rejected_per_second_per_client: PositiveFloat = Field(
        default=10.0,
        description="Rejected requests of one IPv4 address or one IPv6 /64. Beyond it, its "
        "requests are answered 429 unread, and do not count for requests_per_second.",
    )
    rejected_burst_per_client: float = Field(
        default=50.0, ge=1, description="The burst of that rate."
    )
    client_address_header: HeaderName = Field(
        default="",
        description="The header in which a proxy names the sender's address, such as "
        "x-envoy-external-address. Every proxy must replace it. Default: the address of the "
        "connection. Without it, senders behind one proxy share the limits of one address.",
    )
    max_body_bytes: int = Field(
        default=MAX_BODY_BYTES,
        ge=1_024,
        le=1_048_576,
        description="Longest request, and longest SET of a poll.",
    )
    actions: dict[str, Action] = Field(
        default={},
        description="What an event revokes, by its short name (docs/signals.md): session, the "
        "tokens of the provider's session, or of the subject where the event names no session; "
        "subject, all tokens of the subject; none, which is audited alone.",
    )
    streams: tuple[SignalStreamSettings, ...] = Field(
        default=(), description="The identity providers. At least one."
    )

    @rule
    def _something_is_received(self) -> Iterator[Fault]:
        if not self.streams:
            yield Fault("needs [[signals.streams]]: who may send signals", ("streams",))

    @rule
    def _events_are_known(self) -> Iterator[Fault]:
        for name, action in self.actions.items():
            try:
                actions_of({name: action})
            except ValueError as error:
                yield Fault(str(error), ("actions", name))

    @rule
    def _streams_are_distinct(self) -> Iterator[Fault]:
        seen: set[str] = set()
        for position, stream in enumerate(self.streams):
            if stream.issuer in seen:
                yield Fault(
                    "another stream has it: write one table with the audiences of both",
                    ("streams", position, "issuer"),
                )
            seen.add(stream.issuer)


def signal_faults(
    table: SignalSettings, issuers: AbstractSet[str], introspected: AbstractSet[str]
) -> Iterator[Fault]:
    """Faults between it and other tables.

    Args:
        table: the settings.
        issuers: of ``[[issuers]]``.
        introspected: that of ``[introspection]``, where it is set.
    """
    for position, stream in enumerate(table.streams):
        at: Location = ("signals", "streams", position)
        if not stream.has_own_keys and stream.issuer not in issuers:
            yield Fault(
                "is not one of [[issuers]], and has no keys: set jwks_url, jwks_file or discover",
                (*at, "issuer"),
            )
        known = issuers | introspected
        if not stream.applies_to and stream.issuer not in known:
            yield Fault(
                "is not an issuer of tokens: name in applies_to whose tokens it may revoke",
                (*at, "issuer"),
            )
        for place, name in enumerate(stream.applies_to):
            if name not in known:
                yield Fault(
                    "is not one of the issuers: write its [[issuers]] table, or remove it",
                    (*at, "applies_to", place),
                )
