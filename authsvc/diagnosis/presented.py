"""The certificate that a server presents, and why it is not accepted."""

from __future__ import annotations

import asyncio
import ssl
import time
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from authsvc.client import ClientTls
from authsvc.client.targets import Endpoint
from authsvc.client.tls_context import ALPN, context_of
from authsvc.common.printable import printable
from authsvc.diagnosis.certificates import validity_stated
from authsvc.diagnosis.link import names_of, replicas_at
from authsvc.net.addresses import split
from authsvc.net.validity import State

PROBE_SECONDS = 5.0
"""For each connection."""

_OTHER_NAME = frozenset({62, 64})
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""

MAX_AUTHORITIES_SHOWN = 5
MAX_NAME_CHARACTERS = 300


async def why_untrusted(target: str, tls: ClientTls, name: str | None = None) -> str:
    """Why the certificate of a replica is not accepted, and what it presents; empty where that
    cannot be found out.

    Nothing is sent to a replica but a TLS handshake without the caller's certificate or token.

    Args:
        target: as ``AdminClient`` takes it; one address if there is a name.
        tls: how it is authenticated.
        name: that of its certificate, as ``--name`` has it, empty if not given; None for a command
            without that option.
    """
    option = "--target" if name is None else "--name"
    with suppress(OSError, ValueError):
        for endpoint in [Endpoint(target, name)] if name else await replicas_at(target):
            with suppress(OSError):  # of several replicas, one may be away
                if fault := await _fault(endpoint, tls, option):
                    return fault
    return ""


async def _fault(endpoint: Endpoint, tls: ClientTls, option: str) -> str:
    """
    Args:
        endpoint: a replica.
        tls: how it is authenticated.
        option: what gives the name.

    Raises:
        OSError: there is no connection.
        ValueError: what it presents is no certificate.
    """
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    trusting.set_alpn_protocols([ALPN])
    presented = x509.load_der_x509_certificate(await _handshake(endpoint, trusting))
    what = f"The certificate at {endpoint.address}"
    about = _described(presented)
    validity, now = validity_stated(presented), time.time()
    if validity.state(now) in {State.EXPIRED, State.NOT_YET_VALID}:
        return f"{what} {validity.described(now)}.\n{about}"
    try:
        await _handshake(endpoint, context_of(tls.authorities(), None))
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _OTHER_NAME:
            names = printable(", ".join(names_of(presented)))[:MAX_NAME_CHARACTERS] or "no name"
            return f"{what} is for {names}, and not for {_name(endpoint)}: correct {option}."
        return (
            f"{what} is not signed by an authority in --ca-file (ca_file) {tls.ca_file}: "
            f"{error.verify_message}.\n{about}\n{_authorities(tls.ca_file)}"
        )
    return ""


async def _handshake(endpoint: Endpoint, context: ssl.SSLContext) -> bytes:
    """The certificate that is presented, DER."""
    address, name = endpoint.address, _name(endpoint)
    async with asyncio.timeout(PROBE_SECONDS):
        if address.startswith("unix:"):
            path = address.removeprefix("unix:")
            _, writer = await asyncio.open_unix_connection(path, ssl=context, server_hostname=name)
        else:
            host, port = split(address)
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
    try:
        return bytes(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


def _name(endpoint: Endpoint) -> str:
    """The name that a certificate must have; gRPC takes localhost for a Unix socket."""
    if endpoint.host:
        return endpoint.host
    return "localhost" if endpoint.address.startswith("unix:") else split(endpoint.address)[0]


def _described(certificate: x509.Certificate) -> str:
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex(":").upper()
    subject, issuer = _shown(certificate.subject), _shown(certificate.issuer)
    return f"It presents: subject {subject}, issuer {issuer}, SHA-256 {fingerprint}"


def _shown(name: x509.Name) -> str:
    """On one line: the name is chosen by the maker of the certificate."""
    return printable(name.rfc4514_string())[:MAX_NAME_CHARACTERS]


def _authorities(ca_file: Path) -> str:
    """
    Raises:
        OSError: the file cannot be read.
        ValueError: it holds what is no certificate.
    """
    found = x509.load_pem_x509_certificates(ca_file.read_bytes())
    names = [_shown(it.subject) for it in found[:MAX_AUTHORITIES_SHOWN]]
    more = f" and {len(found) - len(names)} more" if len(found) > len(names) else ""
    return f"--ca-file has: {'; '.join(names)}{more}"
