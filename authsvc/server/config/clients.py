"""authsvc as a client of an authorization server: settings that several tables have."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from authsvc.common.client_authentication import AssertionType
from authsvc.common.client_certificate import ThumbprintHeader
from authsvc.common.setting_rules import Fault, rule
from authsvc.common.settings import Table
from authsvc.server.config.egress import CA_FILE, PROXY, egress_faults, private_faults
from authsvc.server.config.values import EndpointUrl, Line, ProxyUrl

SigningAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]

AuthMethod = Literal[
    "client_secret_basic",
    "client_secret_post",
    "private_key_jwt",
    "tls_client_auth",
    "self_signed_tls_client_auth",
    "client_assertion_file",
    "none",
]

_SECRET = ("client_secret_file",)
_CERTIFICATE = ("client_certificate_file", "client_certificate_key_file")

_NEEDED: dict[AuthMethod, tuple[str, ...]] = {
    "client_secret_basic": _SECRET,
    "client_secret_post": _SECRET,
    "private_key_jwt": ("private_key_file",),
    "tls_client_auth": _CERTIFICATE,
    "self_signed_tls_client_auth": _CERTIFICATE,
    "client_assertion_file": ("client_assertion_file",),
    "none": (),
}
"""The settings that a method needs. The first is the one of its secret, key or assertion."""

_OPTIONAL: dict[AuthMethod, tuple[str, ...]] = {
    "private_key_jwt": (
        "private_key_algorithm",
        "private_key_id",
        "private_key_certificate_file",
        "private_key_thumbprint",
        "assertion_audience",
    ),
    "client_assertion_file": ("client_assertion_type",),
}
"""The settings that a method has besides."""

_UNNAMED: frozenset[AuthMethod] = frozenset({"client_assertion_file", "none"})
"""Methods by which a server may know the client without its id, or not at all."""


def _methods_of(setting: str) -> list[AuthMethod]:
    return [
        method
        for method, needed in _NEEDED.items()
        if setting in (*needed, *_OPTIONAL.get(method, ()))
    ]


class EndpointSettings(Table):
    """An endpoint, how it is reached, and how authsvc authenticates there as a client.

    Attributes:
        MAY_BE_PUBLIC: whether the endpoint may answer clients without authentication.
    """

    MAY_BE_PUBLIC: ClassVar[bool] = False

    endpoint: EndpointUrl = Field(description="The endpoint's URL, https.")
    allow_private_addresses: bool = Field(
        default=False, description="Whether the endpoint may have a private address."
    )
    ca_file: Path | None = Field(default=None, description=CA_FILE)
    proxy: ProxyUrl | None = Field(default=None, description=PROXY)
    client_id: Line = Field(
        default="",
        description="authsvc's client id. client_assertion_file and none send it where it is set; "
        "the other methods need it.",
    )
    auth_method: AuthMethod = Field(
        default="client_secret_basic",
        description="How authsvc authenticates: by its secret in the header or in the form (RFC "
        "6749), by an assertion that its private key signs (RFC 7523) or that something else keeps "
        "in a file (RFC 7521), by a certificate in TLS (RFC 8705), or not at all (none, not for "
        "introspection).",
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
        default="",
        description="Claim aud of assertions that authsvc signs. Default: the endpoint.",
    )
    client_certificate_file: Path | None = Field(
        default=None,
        description="authsvc's certificate in TLS (PEM, its chain after it), for tls_client_auth "
        "and self_signed_tls_client_auth. A changed file takes effect.",
    )
    client_certificate_key_file: Path | None = Field(
        default=None,
        description="The private key of client_certificate_file (PEM, without a password). May be "
        "the same file, which is then replaced in one step. A changed file takes effect.",
    )
    client_assertion_file: Path | None = Field(
        default=None,
        description="A JWT that something else writes and renews, such as a Kubernetes projected "
        "service account token or a SPIFFE JWT-SVID. Read for each request.",
    )
    client_assertion_type: AssertionType = Field(
        default="jwt-bearer",
        description="What client_assertion_file is to the server: jwt-bearer (RFC 7523), or "
        "jwt-spiffe (draft-ietf-oauth-spiffe-client-auth).",
    )

    @rule
    def _https_where_it_matters(self) -> Iterator[Fault]:
        yield from egress_faults(self, endpoint=self.endpoint)

    @rule
    def _may_be_connected_to(self) -> Iterator[Fault]:
        yield from private_faults(allowed=self.allow_private_addresses, endpoint=self.endpoint)

    @rule
    def _certificates_go_with_tls(self) -> Iterator[Fault]:
        if self.is_certified and self.endpoint.lower().startswith("http:"):
            yield Fault(
                f"{self.auth_method} goes with https alone, and endpoint is an http URL",
                ("auth_method",),
            )

    @rule
    def _has_a_credential(self) -> Iterator[Fault]:
        missing = [name for name in _NEEDED[self.auth_method] if getattr(self, name) is None]
        if self.auth_method not in _UNNAMED and not self.client_id:
            missing.append("client_id")
        if missing:
            yield Fault(f"auth_method = {self.auth_method!r} needs {' and '.join(missing)}")

    @rule
    def _authenticates_where_it_has_to(self) -> Iterator[Fault]:
        if self.auth_method == "none" and not self.MAY_BE_PUBLIC:
            yield Fault("none is not possible here: the endpoint needs a client", ("auth_method",))

    @rule
    def _one_way_to_authenticate(self) -> Iterator[Fault]:
        names = [*itertools.chain(*_NEEDED.values(), *_OPTIONAL.values())]
        for name in dict.fromkeys(names):
            methods = _methods_of(name)
            if self.auth_method not in methods:
                yield from self.without_effect(
                    (name,),
                    f"with auth_method = {self.auth_method!r}: remove it, or set auth_method to "
                    f"{' or '.join(methods)}",
                )

    @rule
    def _a_header_for_a_certificate(self) -> Iterator[Fault]:
        if self.auth_method == "private_key_jwt" and self.private_key_certificate_file is None:
            yield from self.without_effect(
                ("private_key_thumbprint",),
                "without private_key_certificate_file: set it, or remove this",
            )

    @property
    def credential_setting(self) -> str:
        """The name of the setting that has the secret, the key, the certificate or the assertion;
        ``auth_method`` where there is none."""
        return next(iter(_NEEDED[self.auth_method]), "auth_method")

    @property
    def is_certified(self) -> bool:
        """Whether a certificate of TLS authenticates authsvc."""
        return self.auth_method in {"tls_client_auth", "self_signed_tls_client_auth"}
