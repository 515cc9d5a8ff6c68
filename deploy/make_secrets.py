"""Makes what deploy/ mounts as secrets: certificates, passwords and tokens of one installation.

    python deploy/make_secrets.py [FOLDER]        deploy/secrets by default

What is there already stays; to have a file made anew, empty it first. It is then written in place,
so that a container which has it mounted sees it change. Where an organisation has a secret store
and a certificate authority of its own, those take this script's place.
"""

from __future__ import annotations

import hashlib
import secrets
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from authsvc.net.certificates import SignedCertificate, issue, make_authority, strict_faults

DEPLOY = Path(__file__).parent
TEMPLATE = DEPLOY / "config" / "users.acl"

AUTHORITY_DAYS = 3_650
SERVER_DAYS = 90

SERVERS = {
    # The names by which they are called: a container's, a service's from another namespace, and an
    # operator's beside it.
    "authsvc": ("authsvc", "authsvc.authsvc.svc", "authsvc.authsvc.svc.cluster.local", "localhost"),
    "valkey": ("valkey", "valkey.authsvc.svc", "valkey.authsvc.svc.cluster.local"),
}
TOKENS = ("valkey-password", "valkey-operator-password", "adapter-token", "operator-token")


def make(folder: Path) -> list[str]:
    """Make what is missing or empty.

    Args:
        folder: where to; for its owner alone. The files in it can be read by all, since the
            container's user, who is somebody else, reads them through mounts of their own.

    Returns:
        The names of the files that are new.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = _filled(folder)
    for name in TOKENS:
        if name not in before:
            _write(folder / name, f"{secrets.token_urlsafe(32)}\n".encode())
    has_authority = {"ca.crt", "ca.key"} <= before
    authority = _authority(folder, is_there=has_authority)
    for name, hosts in SERVERS.items():
        if not has_authority or not {f"{name}.crt", f"{name}.key"} <= before:
            names = [x509.DNSName(host) for host in hosts]
            _write_pair(folder, name, issue(authority, name, names, days=SERVER_DAYS))
    _write_users(folder)
    return sorted(_filled(folder) - before)


def _filled(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.stat().st_size}


def _write_users(folder: Path) -> None:
    """Always: it follows from the passwords."""
    text = TEMPLATE.read_text()
    for placeholder, name in (
        ("PASSWORD_SHA256", "valkey-password"),
        ("OPERATOR_SHA256", "valkey-operator-password"),
    ):
        password = (folder / name).read_text().strip()
        text = text.replace(placeholder, hashlib.sha256(password.encode()).hexdigest())
    _write(folder / "users.acl", text.encode())


def _authority(folder: Path, *, is_there: bool) -> SignedCertificate:
    key_file, certificate_file = folder / "ca.key", folder / "ca.crt"
    if not is_there:
        made = make_authority("authsvc deployment CA", days=AUTHORITY_DAYS)
        _write_pair(folder, "ca", made)
        return made
    read = serialization.load_pem_private_key(key_file.read_bytes(), None)
    if not isinstance(read, ec.EllipticCurvePrivateKey):
        raise SystemExit(f"make_secrets: {key_file} is not a key that this script has made")
    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    if faults := strict_faults(certificate):
        sys.stderr.write(
            f"make_secrets: Python 3.13 and other strict verifiers reject {certificate_file}: "
            f"{', '.join(faults)}. To have it made anew, empty it, run this again, and give the "
            "new ca.crt to all who verify.\n"
        )
    return SignedCertificate(read, certificate)


def _write_pair(folder: Path, name: str, signed: SignedCertificate) -> None:
    _write(folder / f"{name}.key", signed.key_pem())
    _write(folder / f"{name}.crt", signed.certificate_pem())


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
    if path.name != "ca.key":
        path.chmod(0o644)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DEPLOY / "secrets"
    made = make(target)
    sys.stdout.write(f"{target}: {', '.join(made) or 'nothing new'}\n")
