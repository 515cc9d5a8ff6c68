"""authsvc where its own configuration has it listen: for a machine without an adapter."""

from __future__ import annotations

from cryptography import x509

from authsvc.client import ClientTls
from authsvc.client.targets import Endpoint
from authsvc.common.file_faults import file_fault
from authsvc.common.settings import ConfigError
from authsvc.diagnosis import Check, Report
from authsvc.diagnosis.link import Advice, check_files, look_at, names_of
from authsvc.net.addresses import from_here
from authsvc.server.config import Settings, TlsSettings

_ADVICE = Advice(
    "Start it with `authsvc serve`. If it runs on another machine, give --target.",
    "It does not present the certificate of tls.certificate_file, or that cannot be used: another "
    "server listens there, or authsvc has not read the file again (its log says why). With "
    "--ca-file: that has to hold the authority of the certificate.",
)


def check(settings: Settings, tls: ClientTls | None, timeout_seconds: float) -> Check:
    """Whether authsvc answers at ``listen``, and with the certificate of ``[tls]``.

    Args:
        settings: of authsvc.
        tls: an operator's; None where none is given: then ``tls.certificate_file`` is trusted, and
            nothing else.
        timeout_seconds: for the whole check.
    """

    async def look(report: Report) -> None:
        check_files(tls)
        endpoint, trust = Endpoint(from_here(settings.listen)), None
        needs_certificate = False
        if settings.tls is not None:
            endpoint = Endpoint(endpoint.address, name_of(own_certificate(settings.tls)))
            trust = tls or ClientTls(settings.tls.certificate_file)
            asks = settings.tls.client_ca_file is not None
            needs_certificate = asks and trust.certificate_file is None
        await look_at(
            report,
            endpoint,
            trust,
            timeout_seconds / 2,
            _ADVICE,
            needs_certificate=needs_certificate,
        )

    remedy = f"{_ADVICE.unreachable} Or raise --timeout-seconds."
    return Check("authsvc", look, remedy, settings.listen)


def own_certificate(table: TlsSettings) -> x509.Certificate:
    """The certificate of ``[tls]``.

    Raises:
        ConfigError: it cannot be read.
        OSError: it is no PEM.
    """
    path = table.certificate_file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"tls.certificate_file: {file_fault(path, error)}") from None
    try:
        return x509.load_pem_x509_certificates(content)[0]
    except ValueError:
        raise OSError(f"{path} is not PEM") from None


def name_of(certificate: x509.Certificate) -> str:
    """A name that clients may know it by; empty where it has none."""
    names = (it for it in names_of(certificate) if "://" not in it)
    # A wildcard stands for one label.
    return next(names, "").replace("*", "authsvc", 1)
