"""What authsvc authenticates by at an authorization server: whether it expires, or has."""

from __future__ import annotations

from cryptography import x509

from authsvc.common.client_authentication import AssertionFile
from authsvc.common.client_certificate import ClientCertificate
from authsvc.common.secret_file import SecretFileError
from authsvc.common.settings import ConfigError
from authsvc.common.times import relative
from authsvc.diagnosis import Report
from authsvc.diagnosis.certificates import report_validity
from authsvc.net.client_identity import ClientIdentity
from authsvc.net.validity import Validity
from authsvc.server.clients import authentication_of, certificate_of
from authsvc.server.config.clients import EndpointSettings

_RENEW = "Have what keeps the file renew it; authsvc follows the file."


def check_expiry(
    report: Report,
    table: EndpointSettings,
    where: str,
    identity: ClientIdentity | None,
    now: float,
) -> bool:
    """Report on a certificate or an assertion that expires; nothing where the method has neither.

    Args:
        report: gets what is found.
        table: the endpoint's settings.
        where: the table's name.
        identity: the certificate that authsvc presents to the endpoint; None for none.
        now: seconds since the epoch.

    Returns:
        Whether a request can be authenticated.

    Raises:
        ConfigError: the file of an assertion, or of a private key's certificate, cannot be used.
    """
    if identity is not None:
        setting = f"{where}.{table.credential_setting}"
        return _check_certificate(report, setting, identity.certificate, now)
    if (certificate := certificate_of(table, where)) is not None:
        _check_certificate_of_key(report, certificate, now)
    if table.auth_method == "client_assertion_file":
        return _check_assertion(report, table, where, now)
    return True


def _check_certificate(
    report: Report, name: str, certificate: x509.Certificate, now: float
) -> bool:
    begins = certificate.not_valid_before_utc.timestamp()
    ends = certificate.not_valid_after_utc.timestamp()
    report_validity(report, f"{name}: the certificate", Validity(begins, ends), now)
    return begins <= now < ends


def _check_certificate_of_key(report: Report, certificate: ClientCertificate, now: float) -> None:
    """The server is asked all the same: some look at the thumbprint alone."""
    try:
        read = certificate.certificate()
    except SecretFileError as error:
        raise ConfigError(f"{certificate.setting}: {error}") from None
    _check_certificate(report, certificate.setting, read, now)


def _check_assertion(report: Report, table: EndpointSettings, where: str, now: float) -> bool:
    method = authentication_of(table, where)
    if not isinstance(method, AssertionFile):
        return True
    try:
        ends = method.expires()
    except SecretFileError as error:
        raise ConfigError(f"{method.setting}: {error}") from None
    if ends is None:
        report.warn(
            f"{method.setting}: the assertion has no exp, without which RFC 7523 has it rejected",
            "Have it issued for minutes or hours.",
        )
    elif ends <= now:
        report.fail(f"{method.setting}: the assertion expired {relative(ends, now)}", _RENEW)
    else:
        report.ok(f"{method.setting}: the assertion expires {relative(ends, now)}")
    return ends is None or ends > now
