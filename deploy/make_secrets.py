"""Makes what deploy/ mounts as secrets: certificates, passwords and tokens of one installation.

    python deploy/make_secrets.py [FOLDER]        deploy/secrets by default

What is there already stays; to have a file made anew, empty it first. It is then written in place,
so that a container which has it mounted sees it change. Where an organisation has a secret store
and a certificate authority of its own, those take this script's place.
"""

from __future__ import annotations

import datetime
import hashlib
import secrets
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

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
            key, certificate = _issued(name, hosts, *authority)
            _write_pair(folder, name, key, certificate)
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


def _authority(
    folder: Path, *, is_there: bool
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key_file, certificate_file = folder / "ca.key", folder / "ca.crt"
    if not is_there:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _named("authsvc deployment CA")
        certificate = (
            _begun(subject, subject, key, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        _write_pair(folder, "ca", key, certificate)
        return key, certificate
    read = serialization.load_pem_private_key(key_file.read_bytes(), None)
    if not isinstance(read, ec.EllipticCurvePrivateKey):
        raise SystemExit(f"make_secrets: {key_file} is not a key that this script has made")
    return read, x509.load_pem_x509_certificate(certificate_file.read_bytes())


def _issued(
    name: str,
    hosts: tuple[str, ...],
    authority_key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    certificate = (
        _begun(_named(name), authority.subject, key, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(names, critical=False)
        .add_extension(usage, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return key, certificate


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _named(title: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])


def _write_pair(
    folder: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(folder / f"{name}.key", pem)
    _write(folder / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
    if path.name != "ca.key":
        path.chmod(0o644)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DEPLOY / "secrets"
    made = make(target)
    sys.stdout.write(f"{target}: {', '.join(made) or 'nothing new'}\n")
