"""``[[issuers]]``: the trusted issuers of JWTs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, PositiveFloat

from authsvc.common.setting_rules import Fault, rule
from authsvc.common.settings import ByResource, Table
from authsvc.server.config.accepted_tokens import AUDIENCES, CLIENT_IDS, empty_entries
from authsvc.server.config.claims import (
    CERTIFICATE_BOUND,
    PROFILE,
    ClaimsSettings,
    ClientIds,
    ProfileName,
)
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
    NonEmpty,
    ProxyUrl,
    each_once,
)
from authsvc.tokens.algorithms import ALGORITHMS
from authsvc.tokens.jwt import OTHER_PURPOSES

_OF_FETCHED_KEYS = (
    "allow_private_addresses",
    "ca_file",
    "proxy",
    "keys_max_stale_seconds",
)
"""The settings of jwks_url and discover."""

_NOTHING_IS_FETCHED = (
    "with keys from a file: remove it, or use jwks_url or discover in place of the file"
)


def _no_template(issuer: str) -> str:
    if "{tenantid}" in issuer.lower():
        raise ValueError("is the iss of one tenant's tokens: write one [[issuers]] for each tenant")
    return issuer


class IssuerSettings(Table):
    """``[[issuers]]``: one trusted issuer of tokens."""

    NAMED_BY: ClassVar[str] = "issuer"

    issuer: Annotated[NonEmpty, AfterValidator(_no_template)] = Field(
        description="Claim iss of its tokens, exactly."
    )
    algorithms: Annotated[tuple[Algorithm, ...], AfterValidator(each_once)] = Field(
        description="The signature algorithms that are accepted from it: RS, PS, ES and HS with "
        "256, 384 or 512; EdDSA, also called Ed25519.",
    )
    secret_file: Path | None = Field(
        default=None,
        description="The secret of HS256, HS384 or HS512: 32, 48 or 64 random bytes or more, such "
        "as openssl rand -hex 32.",
    )
    previous_secret_files: tuple[Path, ...] = Field(
        default=(),
        description="Secrets that stay valid during a rotation. Removing a file withdraws its "
        "secret.",
    )
    jwks_file: Path | None = Field(
        default=None,
        description="Its public keys (RFC 7517). Removing the file leaves its keys in force: to "
        "withdraw a key, write the set without it.",
    )
    jwks_url: EndpointUrl | None = Field(default=None, description="The URL of its public keys.")
    discover: bool = Field(
        default=False,
        description="Whether the URL of its keys comes from its metadata (OIDC Discovery, RFC "
        "8414).",
    )
    metadata_url: EndpointUrl | None = Field(
        default=None,
        description="As discover, if its metadata is at none of the places of the specifications: "
        "the URL of it. The issuer that it names has to be this one.",
    )
    allow_private_addresses: bool = Field(
        default=False, description="Whether keys may be fetched from private addresses."
    )
    ca_file: Path | None = Field(default=None, description=CA_FILE)
    proxy: ProxyUrl | None = Field(default=None, description=PROXY)
    keys_max_stale_seconds: PositiveFloat = Field(
        default=86_400.0,
        description="How long fetched keys stay valid while they cannot be fetched again.",
    )
    audiences: ByResource[tuple[NonEmpty, ...]] = Field(default={}, description=AUDIENCES)
    accepted_types: tuple[NonEmpty, ...] = Field(
        default=(),
        description="Accepted values of the header typ, such as at+jwt. Default: JWT, at+jwt or "
        "none.",
    )
    leeway_seconds: float = Field(default=30.0, ge=0, le=300, description="Accepted clock skew.")
    client_ids: ClientIds = Field(default=(), description=CLIENT_IDS)
    allow_certificate_bound: bool = Field(default=False, description=CERTIFICATE_BOUND)
    profile: ProfileName = Field(default="standard", description=PROFILE)
    claims: ClaimsSettings = ClaimsSettings()
    required_claims: tuple[NonEmpty, ...] = Field(
        default=("exp", "iat"), description="Claims that a token has to have."
    )

    @rule
    def _one_source_of_keys(self) -> Iterator[Fault]:
        given = [self.secret_file, self.jwks_file, self.jwks_url, self.is_discovered or None]
        if sum(item is not None for item in given) != 1:
            yield Fault(
                "needs exactly one of secret_file, jwks_file, jwks_url and discover = true (or "
                "metadata_url)"
            )

    @rule
    def _algorithms_fit_the_keys(self) -> Iterator[Fault]:
        symmetric = [ALGORITHMS[name].is_symmetric for name in self.algorithms]
        if self.secret_file is not None and symmetric != [True]:
            yield Fault("secret_file goes with one of HS256, HS384 and HS512 in algorithms")
        if self.secret_file is None and any(symmetric):
            yield Fault(f"{', '.join(self.algorithms)}: HS algorithms go with secret_file")

    @rule
    def _clients_count(self) -> Iterator[Fault]:
        if "aud" in self.required_claims:
            yield from self.without_effect(
                ("client_ids",), "where required_claims has aud: remove one of them"
            )

    @rule
    def _some_tokens_are_accepted(self) -> Iterator[Fault]:
        yield from empty_entries(self)

    @rule
    def _types_are_of_access_tokens(self) -> Iterator[Fault]:
        for name in self.accepted_types:
            if name.lower().removeprefix("application/") in OTHER_PURPOSES:
                yield Fault(f"has {name}: no access token has that typ", ("accepted_types",))

    @rule
    def _secrets_rotate(self) -> Iterator[Fault]:
        if self.previous_secret_files and self.secret_file is None:
            yield Fault("previous_secret_files needs secret_file")
        elif self.secret_file in self.previous_secret_files:
            yield Fault("has secret_file itself: remove it there", ("previous_secret_files",))

    @rule
    def _can_be_discovered(self) -> Iterator[Fault]:
        if self.is_discovered and self.metadata_url is None:
            yield from discovery_faults(self.issuer)

    @rule
    def _https_where_it_matters(self) -> Iterator[Fault]:
        yield from egress_faults(self, **self._fetched)

    @rule
    def _may_be_connected_to(self) -> Iterator[Fault]:
        yield from private_faults(allowed=self.allow_private_addresses, **self._fetched)

    @rule
    def _something_is_fetched(self) -> Iterator[Fault]:
        if not self._fetched:
            yield from self.without_effect(_OF_FETCHED_KEYS, _NOTHING_IS_FETCHED)

    @property
    def _fetched(self) -> dict[str, str]:
        """The URL that is fetched first, by its setting."""
        if self.metadata_url is not None:
            return {"metadata_url": self.metadata_url}
        if self.discover:
            return {"issuer": self.issuer}
        return {} if self.jwks_url is None else {"jwks_url": self.jwks_url}

    @property
    def is_discovered(self) -> bool:
        """Whether the URL of its keys comes from its metadata."""
        return self.discover or self.metadata_url is not None

    @property
    def key_setting(self) -> str:
        """The name of the setting that the keys come from."""
        for name in ("secret_file", "jwks_file", "jwks_url"):
            if getattr(self, name) is not None:
                return name
        return "discover"
