"""The connection to authsvc: names, TLS, certificates, health, and whether an adapter is allowed to
call."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from functools import partial

from cryptography import x509

from authsvc.client import AuthClient, ClientTls
from authsvc.client.health import Health, probe
from authsvc.client.targets import Endpoint, Targets, endpoints_of, look_up
from authsvc.client.tls import file_faults
from authsvc.client.tls_context import context_of
from authsvc.common.settings import ConfigError
from authsvc.diagnosis import Check, Report, cause, side_by_side
from authsvc.diagnosis.certificates import report_validity, validity_stated
from authsvc.domain.errors import AuthError, Reason
from authsvc.net.addresses import split
from authsvc.net.certificates import strict_faults
from authsvc.net.failures import is_about_dates
from authsvc.net.validity import State

_DEADLINE = "DEADLINE_EXCEEDED"
"""As ``Health.text`` has it."""

UNANSWERED = (
    "It is stuck, paused or overloaded: look at its process, its CPU and its log. If these are "
    "well, another server listens there."
)
"""What to do about an authsvc that accepts connections and does not answer."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do about an authsvc that cannot be used, by who asks.

    Attributes:
        unreachable: if nothing listens at its address.
        untrusted: if its certificate is not accepted, or ours is not.
    """

    unreachable: str
    untrusted: str


_TO_CLIENTS = Advice(
    "Start it with `authsvc serve`, or correct the address: --target, or an adapter's "
    "authsvc.target.",
    "ca_file must hold the authority that signed its certificate, and the certificate must name "
    "the target. Python 3.13 and newer also require the extensions of RFC 5280 in both. If it "
    "requires a client certificate, set certificate_file and key_file.",
)


class _UnansweredError(Exception):
    """A connection was accepted, and nothing was answered."""


def files(tls: ClientTls | None) -> list[Check]:
    """The check of a caller's files: what is wrong with them is found before a connection is."""
    if tls is None:
        return []

    async def look(report: Report) -> None:
        for fault in file_faults(tls):
            report.fail(fault, "Correct the file, or the setting or option that names it.")

    return [Check("files", look, "")]


def check_files(tls: ClientTls | None) -> None:
    """Check a caller's files, before they are used.

    Raises:
        ConfigError: they cannot be used: a line for each, which ``files`` reports.
    """
    if tls is not None and (faults := file_faults(tls)):
        raise ConfigError("\n".join(faults))


def replicas(target: str, tls: ClientTls | None, timeout_seconds: float) -> Check:
    """Whether each replica is reachable, proves its identity, and serves.

    Args:
        target: as ``AuthClient`` takes it.
        tls: the adapter's; None in the clear.
        timeout_seconds: for all of them, which are looked at at the same time.
    """

    remedy = f"{_TO_CLIENTS.unreachable} Or raise --timeout-seconds."

    async def check(report: Report) -> None:
        check_files(tls)
        endpoints = await replicas_at(target)
        look = partial(look_at, tls=tls, timeout_seconds=timeout_seconds / 2, advice=_TO_CLIENTS)
        await side_by_side(report, (partial(look, endpoint=it) for it in endpoints), remedy)

    return Check("authsvc", check, remedy, target)


def caller(target: str, tls: ClientTls | None, resource: str, timeout_seconds: float) -> Check:
    """Whether the adapter is allowed to use its resource."""

    async def ask(report: Report) -> None:
        check_files(tls)
        await _ask(report, target, tls, resource, timeout_seconds)

    return Check("caller", ask, "See the findings on authsvc above.", target)


async def replicas_at(target: str) -> list[Endpoint]:
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


async def look_at(
    report: Report,
    endpoint: Endpoint,
    tls: ClientTls | None,
    timeout_seconds: float,
    advice: Advice,
    *,
    needs_certificate: bool = False,
) -> None:
    """Report whether one replica is reachable, proves its identity, and serves.

    Args:
        report: gets what is found.
        endpoint: where it is.
        tls: how to authenticate it; None in the clear.
        timeout_seconds: for the connection, and for its health.
        advice: what to do if it cannot be used.
        needs_certificate: whether it answers nobody without a certificate, and ``tls`` has none.
    """
    address = endpoint.address
    try:
        certificate = await _connect(endpoint, tls, timeout_seconds)
    except _UnansweredError:
        report.fail(
            f"{address} accepts connections, and does not answer in {timeout_seconds:g} s",
            UNANSWERED,
        )
        return
    except TimeoutError:
        report.fail(
            f"{address}: no connection in {timeout_seconds:g} s",
            "A firewall or network policy drops the connection, or the address is wrong.",
        )
        return
    except ssl.SSLError as error:
        if is_about_dates(error):
            await _report_dates(report, endpoint, timeout_seconds)
        else:
            report.fail(f"{address}: TLS: {_tls_cause(error)}", advice.untrusted)
        return
    except OSError as error:
        report.fail(f"{address}: {cause(error)}", advice.unreachable)
        return
    if certificate is not None:
        check_certificate(report, f"{address}: its certificate", certificate, time.time())
    if needs_certificate:
        report.note(
            f"{address} answers; its health is not known, since it answers certificates of callers "
            "alone: to ask, give --certificate-file and --key-file of one, and --ca-file"
        )
        return
    health = await probe(address, tls=tls, name=endpoint.host, timeout_seconds=timeout_seconds)
    _judge(report, address, health)


async def _report_dates(report: Report, endpoint: Endpoint, timeout_seconds: float) -> None:
    """The dates of a certificate that is rejected for them. Nothing is sent to its server."""
    address = endpoint.address
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    remedy = "Replace tls.certificate_file of authsvc, and compare the clocks of both machines."
    try:
        presented = await _presented(endpoint, unverified, timeout_seconds)
    except (OSError, _UnansweredError):
        report.fail(f"{address}: its certificate has expired, or is not valid yet", remedy)
        return
    validity, now = validity_stated(presented), time.time()
    if validity.state(now) in {State.EXPIRED, State.NOT_YET_VALID}:
        report.fail(f"{address}: its certificate {validity.described(now)}", remedy)
    else:
        report.fail(
            f"{address}: a certificate above its own has expired, or is not valid yet: in its "
            "chain, or in ca_file",
            "Replace the authority's certificate.",
        )


def _tls_cause(error: ssl.SSLError) -> str:
    # OpenSSL's errors have a reason, ours have a text.
    why = getattr(error, "reason", None) or str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{why}: {error.verify_message}"
    return why


def _judge(report: Report, address: str, health: Health) -> None:
    if health.serving:
        report.ok(f"{address} serves")
    elif health.answered:
        report.fail(
            f"{address}: {health.text}",
            "It lacks an issuer's keys or its store, or is stopping: see the findings below.",
        )
    elif health.text == _DEADLINE:
        report.fail(f"{address}: health: {health.text}", UNANSWERED)
    else:
        report.fail(
            f"{address}: health: {health}",
            "Only one of the two sides uses TLS, or the server is not authsvc.",
        )


async def _connect(
    endpoint: Endpoint, tls: ClientTls | None, timeout_seconds: float
) -> x509.Certificate | None:
    """Connect and disconnect; the certificate that the server presents, None without TLS.

    Raises:
        TimeoutError: there is no connection in time.
        _UnansweredError: there is one, and no TLS handshake in time.
        OSError: it is unreachable, or its certificate is invalid.
    """
    if tls is not None:
        context = context_of(tls.authorities(), tls.pair())
        return await _presented(endpoint, context, timeout_seconds)
    async with asyncio.timeout(timeout_seconds):
        writer = await _opened(endpoint.address)
    writer.close()
    return None


async def _presented(
    endpoint: Endpoint, context: ssl.SSLContext, timeout_seconds: float
) -> x509.Certificate:
    """The certificate that the server presents. Raises as ``_connect``."""
    ends = asyncio.get_running_loop().time() + timeout_seconds
    async with asyncio.timeout_at(ends):
        writer = await _opened(endpoint.address)
    try:
        name = endpoint.host or _host(endpoint.address)
        async with asyncio.timeout_at(ends):
            await writer.start_tls(context, server_hostname=name)
        data = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(data)
    except TimeoutError:
        raise _UnansweredError from None
    finally:
        writer.close()


async def _opened(address: str) -> asyncio.StreamWriter:
    if address.startswith("unix:"):
        _, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
    else:
        host, port = split(address)
        _, writer = await asyncio.open_connection(host, port)
    return writer


def _host(address: str) -> str:
    """The name that a certificate must have; gRPC takes localhost for a Unix socket."""
    return "localhost" if address.startswith("unix:") else split(address)[0]


def check_certificate(report: Report, what: str, certificate: x509.Certificate, now: float) -> None:
    """Report how long a certificate is valid, its names, and whether strict verifiers reject it."""
    if faults := strict_faults(certificate):
        report.warn(
            f"{what} is rejected by strict verifiers, Python 3.13 among them: {', '.join(faults)}",
            "Have it reissued in conformance with RFC 5280.",
        )
    names = ", ".join(names_of(certificate)) or "no name"
    report_validity(report, what, validity_stated(certificate), now, names=f", for {names}")


def names_of(certificate: x509.Certificate) -> list[str]:
    """Its subject alternative names."""
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
