"""Makes what deploy/ mounts as secrets: certificates, passwords and tokens of one installation.

    python deploy/make_secrets.py [FOLDER] [--caller NAME …]        deploy/secrets by default
    python deploy/make_secrets.py --rotate-ca start|issue|finish [FOLDER]

A caller is an MCP server besides the adapter: it gets NAME-token, and authsvc NAME-token.sha256.
What is there already stays; to have a file made anew, empty it first. It is then written in place,
so that a container which has it mounted sees it change. Where an organisation has a secret store
and a certificate authority of its own, those take this script's place.

--rotate-ca replaces the authority in three steps. Bring the files to all programs after each:
start adds a new authority to ca.crt, issue has it sign new certificates of the servers, finish
takes the old authority out of ca.crt.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
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
    # Of the console in compose, for a browser on the same machine.
    "console": ("localhost",),
}
USERS = {
    "PASSWORD_SHA256": "valkey-password",
    "OPERATOR_SHA256": "valkey-operator-password",
    "EXPORTER_SHA256": "valkey-exporter-password",
}
"""Valkey's users: the placeholder of each digest, and the file of the password."""

CALLERS = ("adapter", "operator", "console")

EXPORTER = "rediss://exporter@valkey:6379"
"""The address by which the exporter finds its password."""


def make(folder: Path, callers: Sequence[str] = ()) -> list[str]:
    """Make what is missing or empty.

    Args:
        folder: where to; for its owner alone. The files in it can be read by all, since the
            container's user, who is somebody else, reads them through mounts of their own.
        callers: names of more callers of authsvc.

    Returns:
        The names of the files that are new.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = _filled(folder)
    tokens = [f"{name}-token" for name in (*CALLERS, *callers)]
    for name in (*USERS.values(), *tokens):
        if name not in before:
            _write(folder / name, f"{secrets.token_urlsafe(32)}\n".encode())
    # Lines of operators are added by hand. Compose mounts no file that does not exist.
    if not (folder / "console-operators").exists():
        _write(folder / "console-operators", b"")
    has_authority = {"ca.crt", "ca.key"} <= before
    authority = _authority(folder) if has_authority else _new_authority()
    if not has_authority:
        _write_authorities(folder, authority.key_pem(), authority.certificate)
    for name in SERVERS:
        if not has_authority or not {f"{name}.crt", f"{name}.key"} <= before:
            _issue(folder, name, authority)
    _write_users(folder)
    _write_derived(folder)
    return sorted(_filled(folder) - before)


def _filled(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.stat().st_size}


def _write_users(folder: Path) -> None:
    """Always: it follows from the passwords."""
    text = TEMPLATE.read_text()
    for placeholder, name in USERS.items():
        text = text.replace(placeholder, _digest(folder / name))
    _write(folder / "users.acl", text.encode())


def _write_derived(folder: Path) -> None:
    """Always: the digests of the tokens that are here, and the exporter's password in its form."""
    # A second token during a rotation is NAME-token-2.
    for token in (it for it in folder.glob("[!.]*-token*") if it.suffix != ".sha256"):
        _write(folder / f"{token.name}.sha256", f"sha256:{_digest(token)}\n".encode())
    password = (folder / "valkey-exporter-password").read_text().strip()
    _write(folder / "valkey-exporter.json", json.dumps({EXPORTER: password}).encode())


def _digest(path: Path) -> str:
    """SHA-256 of the secret in a file, in hexadecimal."""
    return hashlib.sha256(path.read_text().strip().encode()).hexdigest()


def rotate_authority(folder: Path, step: str) -> str:
    """Do one step of a rotation of the authority.

    Args:
        folder: as of ``make``.
        step: ``start``, ``issue`` or ``finish``.

    Returns:
        What is to be done next.

    Raises:
        SystemExit: it is not the time for that step.
    """
    authority, trusted = _authority(folder), _certificates(folder / "ca.crt")
    others = [it for it in trusted if it.public_key() != authority.certificate.public_key()]
    # The new authority is the last one. A start that ended in between has not written its key.
    is_started = bool(others) and trusted[-1] == authority.certificate
    if step == "start":
        if is_started:
            raise SystemExit("make_secrets: ca.crt has two authorities: go on with issue or finish")
        new = _new_authority()
        _write_authorities(folder, new.key_pem(), *trusted, new.certificate)
        return (
            "ca.crt has the old and the new authority. Bring it to every program, wait until each "
            "has it, and go on with --rotate-ca issue"
        )
    if not others:
        raise SystemExit("make_secrets: ca.crt has one authority: begin with --rotate-ca start")
    if not is_started:
        raise SystemExit("make_secrets: the new authority has no key: repeat --rotate-ca start")
    if step == "issue":
        for name in SERVERS:
            _issue(folder, name, authority)
        return (
            "the servers have certificates of the new authority. Bring them to every server, wait "
            "until each presents its own, and go on with --rotate-ca finish"
        )
    for name in SERVERS:
        signed = x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
        try:
            signed.verify_directly_issued_by(authority.certificate)
        except (ValueError, InvalidSignature):
            raise SystemExit(
                f"make_secrets: {name}.crt is of the old authority: --rotate-ca issue first"
            ) from None
    _write(folder / "ca.crt", authority.certificate_pem())
    return "ca.crt has the new authority alone. Bring it to every program"


def _new_authority() -> SignedCertificate:
    return make_authority("authsvc deployment CA", days=AUTHORITY_DAYS)


def _authority(folder: Path) -> SignedCertificate:
    """The authority whose key is in ``ca.key``: in a rotation, the new one."""
    key_file, certificate_file = folder / "ca.key", folder / "ca.crt"
    if not {"ca.crt", "ca.key"} <= _filled(folder):
        raise SystemExit(f"make_secrets: {folder} has no authority: run this without options first")
    read = serialization.load_pem_private_key(key_file.read_bytes(), None)
    if not isinstance(read, ec.EllipticCurvePrivateKey):
        raise SystemExit(f"make_secrets: {key_file} is not a key that this script has made")
    own = [it for it in _certificates(certificate_file) if it.public_key() == read.public_key()]
    if not own:
        raise SystemExit(f"make_secrets: {certificate_file} has no certificate of {key_file}")
    if faults := strict_faults(own[0]):
        sys.stderr.write(
            f"make_secrets: Python 3.13 and other strict verifiers reject {certificate_file}: "
            f"{', '.join(faults)}. To have it made anew, use --rotate-ca start.\n"
        )
    return SignedCertificate(read, own[0])


def _certificates(path: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(path.read_bytes())


def _write_authorities(folder: Path, key: bytes, *certificates: x509.Certificate) -> None:
    # The key last: until then, the old one is there, and a start that was interrupted can be
    # repeated. Without a key, every program would have to get a new authority at once.
    pem = [certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates]
    _write(folder / "ca.crt", b"".join(pem))
    _write(folder / "ca.key", key)


def _issue(folder: Path, name: str, authority: SignedCertificate) -> None:
    names = [x509.DNSName(host) for host in SERVERS[name]]
    _write_pair(folder, name, issue(authority, name, names, days=SERVER_DAYS))


def _write_pair(folder: Path, name: str, signed: SignedCertificate) -> None:
    _write(folder / f"{name}.key", signed.key_pem())
    _write(folder / f"{name}.crt", signed.certificate_pem())


def _write(path: Path, content: bytes) -> None:
    path = path.resolve()
    # Beside it first: on a full disk, the file keeps what it holds.
    new = path.with_name(f".{path.name}.new")
    new.touch(mode=0o600)
    new.write_bytes(content)
    if path.name == "ca.key":  # no container has it mounted
        new.replace(path)
        return
    path.touch(mode=0o600)
    path.write_bytes(content)
    path.chmod(0o644)
    new.unlink()


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Makes the secrets of one installation.")
    parser.add_argument("--rotate-ca", choices=("start", "issue", "finish"))
    parser.add_argument("--caller", action="append", default=[], type=_name, metavar="NAME")
    parser.add_argument("folder", nargs="?", type=Path, default=DEPLOY / "secrets")
    arguments = parser.parse_args()
    if arguments.rotate_ca is None:
        said = ", ".join(make(arguments.folder, arguments.caller)) or "nothing new"
    elif arguments.caller:
        parser.error("give either --rotate-ca or --caller")
    else:
        said = rotate_authority(arguments.folder, arguments.rotate_ca)
    sys.stdout.write(f"{arguments.folder}: {said}\n")


def _name(text: str) -> str:
    if not re.fullmatch("[a-z0-9]([a-z0-9-]*[a-z0-9])?", text):
        raise argparse.ArgumentTypeError("is made of a-z, 0-9 and hyphens, and begins with none")
    return text


if __name__ == "__main__":
    main()
