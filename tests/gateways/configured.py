"""authsvc behind a gateway: TLS, a caller for the gateway by its certificate, and an operator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from authsvc.client import ClientTls
from authsvc.net.certificates import issue, make_authority
from tests.support.tokens import IdentityProvider

ASSERTING = "https://authsvc.example"
"""Claim ``iss`` of assertions."""

WRITING = "files.write"
"""The scope that the tool ``write`` needs."""

UNAUTHENTICATED_SECONDS, AUTHENTICATED_SECONDS = 100, 200
"""How long sessions may be idle: not long, since the keys of assertions are read again by the real
time, and are of no use once they are 600 s old by a clock that tests move on."""

_GATEWAY, _OPERATOR = (f"spiffe://test/{name}" for name in ("gateway", "operator"))


@dataclass(frozen=True)
class Files:
    """What authsvc, the gateway and an operator are known by.

    Attributes:
        folder: where they are.
    """

    folder: Path

    def write(self, idp: IdentityProvider) -> None:
        """Make all of them."""
        authority = make_authority("gateways", days=1)
        (self.folder / "authsvc-ca.pem").write_bytes(authority.certificate_pem())
        names: dict[str, x509.GeneralName] = {
            "server": x509.DNSName("localhost"),
            "gateway": x509.UniformResourceIdentifier(_GATEWAY),
            "operator": x509.UniformResourceIdentifier(_OPERATOR),
        }
        for name, alternative in names.items():
            signed = issue(authority, name, [alternative], days=1, client=True)
            (self.folder / f"{name}.pem").write_bytes(signed.certificate_pem())
            key = self.folder / f"{name}.key"
            key.touch(mode=0o600)
            key.write_bytes(signed.key_pem())
        idp.write_secret(self.folder)

    @property
    def operator(self) -> ClientTls:
        """How an operator calls."""
        return self._calls("operator")

    @property
    def gateway(self) -> ClientTls:
        """How a gateway calls."""
        return self._calls("gateway")

    def _calls(self, name: str) -> ClientTls:
        return ClientTls(
            *(self.folder / it for it in ("authsvc-ca.pem", f"{name}.pem", f"{name}.key"))
        )


def config(
    files: Files,
    idp: IdentityProvider,
    *,
    resource: str,
    port: int,
    jwks_port: int,
    route: Mapping[str, object],
    store: str = 'kind = "memory"',
    tables: str = "",
    encryption_key_file: Path | None = None,
    name: str = "authsvc",
) -> Path:
    """Write the configuration of authsvc.

    Args:
        files: of ``Files.write``.
        idp: whom it trusts.
        resource: what the gateway serves.
        port: where it listens.
        jwks_port: where it publishes its keys.
        route: what the resource's route sets.
        store: ``[store]``.
        tables: further tables.
        encryption_key_file: of the signing keys, where they are in a store outside the process.
        name: of the file, without its ending.
    """
    folder = files.folder
    settings = "\n".join(f"{key} = {_toml(value)}" for key, value in route.items())
    encryption = f'encryption_key_file = "{encryption_key_file}"' if encryption_key_file else ""
    path = folder / f"{name}.toml"
    path.write_text(
        f"""
listen = "127.0.0.1:{port}"
log_level = "debug"
drain_seconds = 0
[tls]
certificate_file = "{folder}/server.pem"
key_file = "{folder}/server.key"
client_ca_file = "{folder}/authsvc-ca.pem"
[[callers]]
name = "gateway"
resources = ["{resource}"]
certificate_names = ["{_GATEWAY}"]
[[callers]]
name = "operator"
admin = true
certificate_names = ["{_OPERATOR}"]
[store]
{store}
[sessions]
unauthenticated_idle_seconds = {UNAUTHENTICATED_SECONDS}
authenticated_idle_seconds = {AUTHENTICATED_SECONDS}
[[issuers]]
issuer = "{idp.issuer}"
algorithms = ["HS256"]
secret_file = "{folder}/secret"
[assertions]
issuer = "{ASSERTING}"
listen = "127.0.0.1:{jwks_port}"
{encryption}
[ext_authz]
[[ext_authz.routes]]
resource = "{resource}"
authorization_servers = ["{idp.issuer}"]
tools = {{ write = ["{WRITING}"] }}
{settings}
{tables}
"""
    )
    return path


def _toml(value: object) -> str:
    """A boolean, a string or a list of strings: the same in TOML as in JSON."""
    return json.dumps(value)
