"""The connection from an adapter to authsvc: names, TLS, certificates, health, and whether the
adapter is allowed to call."""

from __future__ import annotations

import asyncio
import ssl
import time
from datetime import UTC, datetime

from cryptography import x509

from authsvc.client import AuthClient, ClientTls
from authsvc.client.health import probe
from authsvc.client.targets import Endpoint, Targets, endpoints_of, look_up
from authsvc.diagnosis import Check, Report, cause
from authsvc.domain.errors import AuthError, Reason
from authsvc.net.addresses import split
from authsvc.net.certificates import strict_faults

EXPIRY_WARNING_DAYS = 14

_START = "Start it with `authsvc serve`, or correct the adapter's authsvc.target."


def replicas(target: str, tls: ClientTls | None, timeout_seconds: float) -> Check:
    """Whether each replica is reachable, proves its identity, and serves.

    Args:
        target: as ``AuthClient`` takes it.
        tls: the adapter's; None in the clear.
        timeout_seconds: for all of them together.
    """

    async def check(report: Report) -> None:
        endpoints = await _endpoints(target)
        each = timeout_seconds / (2 * max(1, len(endpoints)))
        for endpoint in endpoints:
            await _look_at(report, endpoint, tls, each)

    return Check("authsvc", check, f"{_START} Or raise --timeout-seconds.")


def caller(target: str, tls: ClientTls | None, resource: str, timeout_seconds: float) -> Check:
    """Whether the adapter is allowed to use its resource."""

    async def ask(report: Report) -> None:
        await _ask(report, target, tls, resource, timeout_seconds)

    return Check("caller", ask, "See the findings on authsvc above.")


async def _endpoints(target: str) -> list[Endpoint]:
    """
    Raises:
        OSError: the target is invalid, or a name has no address.
    """
    try:
        targets = Targets.parse(target)
    except ValueError as error:
        raise OSError(str(error)) from None
    found = list(targets.endpoints)
    for name in targets.names:
        found += sorted(await endpoints_of(name, look_up), key=lambda it: it.address)
    return found


async def _look_at(
    report: Report, endpoint: Endpoint, tls: ClientTls | None, timeout_seconds: float
) -> None:
    try:
        async with asyncio.timeout(timeout_seconds):
            certificate = await _connect(endpoint, tls)
    except TimeoutError:
        report.fail(
            f"{endpoint.address}: no connection in {timeout_seconds:g} s",
            "A firewall or network policy drops the connection, or the address is wrong.",
        )
        return
    except ssl.SSLError as error:
        # OpenSSL's errors have a reason, ours have a text.
        why = getattr(error, "reason", None) or str(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            why += f": {error.verify_message}"
        report.fail(
            f"{endpoint.address}: TLS: {why}",
            "ca_file must hold the authority that signed its certificate, and the certificate "
            "must name the target. Python 3.13 and newer also require the extensions of RFC 5280 "
            "in both. If it requires a client certificate, set certificate_file and key_file.",
        )
        return
    except OSError as error:
        report.fail(
            f"{endpoint.address}: {cause(error)}",
            _START,
        )
        return
    if certificate is not None:
        check_certificate(report, f"{endpoint.address}: its certificate", certificate, time.time())
    health = await probe(
        endpoint.address, tls=tls, name=endpoint.host, timeout_seconds=timeout_seconds
    )
    if health.serving:
        report.ok(f"{endpoint.address} serves")
    elif health.answered:
        report.fail(
            f"{endpoint.address}: {health.text}",
            "It lacks an issuer's keys or its store, or is stopping: see the findings below.",
        )
    else:
        report.fail(
            f"{endpoint.address}: health: {health.text}",
            "Only one of the two sides uses TLS, or the server is not authsvc.",
        )


async def _connect(endpoint: Endpoint, tls: ClientTls | None) -> x509.Certificate | None:
    """Connect and disconnect; the certificate that the server presents, None without TLS.

    Raises:
        OSError: it is unreachable, or its certificate is invalid.
    """
    if endpoint.address.startswith("unix:"):
        _, writer = await asyncio.open_unix_connection(endpoint.address.removeprefix("unix:"))
        writer.close()
        return None
    host, port = split(endpoint.address)
    context = None
    if tls is not None:
        context = ssl.create_default_context(cadata=tls.authorities().decode())
        context.set_alpn_protocols(["h2"])
        if tls.certificate_file is not None:
            context.load_cert_chain(tls.certificate_file, tls.key_file)
    name = (endpoint.host or host) if context else None
    _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
    try:
        shown = writer.get_extra_info("ssl_object")
        data = shown.getpeercert(binary_form=True) if shown else None
        return x509.load_der_x509_certificate(data) if data else None
    finally:
        writer.close()


def check_certificate(report: Report, what: str, certificate: x509.Certificate, now: float) -> None:
    """Report how long a certificate is valid, its names, and whether strict verifiers reject it."""
    if faults := strict_faults(certificate):
        report.warn(
            f"{what} is rejected by strict verifiers, Python 3.13 among them: {', '.join(faults)}",
            "Have it reissued in conformance with RFC 5280.",
        )
    days = (certificate.not_valid_after_utc - datetime.fromtimestamp(now, UTC)).days
    names = ", ".join(_names(certificate)) or "no name"
    if days < 0:
        report.fail(f"{what} expired {-days} days ago", "Replace the file; authsvc reloads it.")
    elif days < EXPIRY_WARNING_DAYS:
        report.warn(f"{what} expires in {days} days", "Replace the file; authsvc reloads it.")
    else:
        report.ok(f"{what} is valid for {days} more days, for {names}")


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in found.value]


async def _ask(
    report: Report, target: str, tls: ClientTls | None, resource: str, timeout_seconds: float
) -> None:
    """Resolve without a session id or token, which stores nothing."""
    try:
        async with AuthClient(target, deadline_seconds=timeout_seconds / 2, tls=tls) as client:
            await client.resolve("", "", resource=resource)
    except AuthError as error:
        if error.reason is not Reason.CALLER_NOT_ALLOWED:
            raise
        report.fail(
            f"authsvc denies the adapter the use of {resource}",
            "Give authsvc's [[callers]] an entry with that resource, and with the adapter's "
            "certificate name or service token; or add it to resources.",
        )
        return
    report.ok(f"authsvc answers for {resource}")
