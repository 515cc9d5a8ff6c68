"""Certificates for development: an authority, a server on this machine, and one client."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from cryptography import x509

from authsvc.net.certificates import issue, make_authority

DEVELOPMENT_DAYS = 30
"""How long certificates for development last."""


def write_development_certificates(folder: Path, *, client_name: str) -> None:
    """An authority, and certificates of a server on this machine and of one client.

    Writes ``ca.pem``, ``server.pem``, ``server.key``, ``client.pem`` and ``client.key``. The
    authority's own key is not kept: nothing else can be signed with it.

    Args:
        folder: where to; made if it is missing.
        client_name: the URI in the client's certificate, such as ``spiffe://dev/adapter``.

    Raises:
        OSError: the files cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    authority = make_authority("authsvc development CA", days=DEVELOPMENT_DAYS)
    (folder / "ca.pem").write_bytes(authority.certificate_pem())
    server_names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    client_names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(client_name)]
    for name, names in (("server", server_names), ("client", client_names)):
        signed = issue(authority, f"authsvc {name}", names, days=DEVELOPMENT_DAYS, client=True)
        (folder / f"{name}.pem").write_bytes(signed.certificate_pem())
        key_file = folder / f"{name}.key"
        # Made anew: one that was there before might be open to others.
        key_file.unlink(missing_ok=True)
        key_file.touch(mode=0o600)
        key_file.write_bytes(signed.key_pem())
