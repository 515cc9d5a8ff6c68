"""authsvc as a client of an authorization server: settings that several tables have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from authsvc.common.client_certificate import ThumbprintHeader
from authsvc.common.setting_rules import Fault, rule
from authsvc.common.settings import Table
from authsvc.server.config.egress import CA_FILE, PROXY, egress_faults, private_faults
from authsvc.server.config.values import EndpointUrl, Line, NonEmpty, ProxyUrl

SigningAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]

_OF_ASSERTIONS = (
    "private_key_file",
    "private_key_algorithm",
    "private_key_id",
    "private_key_certificate_file",
    "private_key_thumbprint",
    "assertion_audience",
)
"""The settings of private_key_jwt."""


class EndpointSettings(Table):
    """An endpoint, how it is reached, and how authsvc authenticates there as a client."""

    endpoint: EndpointUrl = Field(description="The endpoint's URL, https.")
    allow_private_addresses: bool = Field(
        default=False, description="Whether the endpoint may have a private address."
    )
    ca_file: Path | None = Field(default=None, description=CA_FILE)
    proxy: ProxyUrl | None = Field(default=None, description=PROXY)
    client_id: NonEmpty = Field(description="authsvc's client id.")
    auth_method: Literal["client_secret_basic", "client_secret_post", "private_key_jwt"] = Field(
        default="client_secret_basic",
        description="How authsvc authenticates: by its secret in the header or in the form (RFC "
        "6749), or by an assertion that its private key signs (RFC 7523).",
    )
    client_secret_file: Path | None = Field(
        default=None,
        description="authsvc's client secret, for client_secret_basic and client_secret_post. A "
        "changed file takes effect.",
    )
    private_key_file: Path | None = Field(
        default=None,
        description="authsvc's private key (RSA, EC or Ed25519, PEM), for private_key_jwt. A "
        "changed file takes effect.",
    )
    private_key_algorithm: SigningAlgorithm | None = Field(
        default=None,
        description="The algorithm of assertions. Default: RS256, ES256 (by the curve), or EdDSA.",
    )
    private_key_id: Line = Field(default="", description="Header kid of assertions.")
    private_key_certificate_file: Path | None = Field(
        default=None,
        description="The certificate (PEM) of the private key, for a server that finds the key by "
        "its thumbprint. May be the same file as private_key_file. A changed file takes effect.",
    )
    private_key_thumbprint: ThumbprintHeader = Field(
        default="x5t#S256",
        description="The header of assertions that has the thumbprint: x5t#S256 (SHA-256), or x5t "
        "(SHA-1) for a server that knows no other.",
    )
    assertion_audience: Line = Field(
        default="", description="Claim aud of assertions. Default: the endpoint."
    )

    @rule
    def _https_where_it_matters(self) -> Iterator[Fault]:
        yield from egress_faults(self, endpoint=self.endpoint)

    @rule
    def _may_be_connected_to(self) -> Iterator[Fault]:
        yield from private_faults(allowed=self.allow_private_addresses, endpoint=self.endpoint)

    @rule
    def _has_a_credential(self) -> Iterator[Fault]:
        if getattr(self, self.credential_setting) is None:
            yield Fault(f"auth_method = {self.auth_method!r} needs {self.credential_setting}")

    @rule
    def _one_way_to_authenticate(self) -> Iterator[Fault]:
        others: tuple[str, ...]
        if self._is_signed:
            others, method = ("client_secret_file",), "client_secret_basic or client_secret_post"
        else:
            others, method = _OF_ASSERTIONS, "private_key_jwt"
        yield from self.without_effect(
            others,
            f"with auth_method = {self.auth_method!r}: remove it, or set auth_method to {method}",
        )

    @rule
    def _a_header_for_a_certificate(self) -> Iterator[Fault]:
        if self._is_signed and self.private_key_certificate_file is None:
            yield from self.without_effect(
                ("private_key_thumbprint",),
                "without private_key_certificate_file: set it, or remove this",
            )

    @property
    def credential_setting(self) -> str:
        """The name of the setting that has the secret or the key."""
        return "private_key_file" if self._is_signed else "client_secret_file"

    @property
    def credential_file(self) -> Path:
        """The file with the secret or the key."""
        file: Path = getattr(self, self.credential_setting)
        return file

    @property
    def _is_signed(self) -> bool:
        return self.auth_method == "private_key_jwt"
