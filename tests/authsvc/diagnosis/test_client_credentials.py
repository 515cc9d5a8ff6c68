"""When a certificate or an assertion that authsvc authenticates by is worth a warning."""

from __future__ import annotations

from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from authsvc.common.settings import ConfigError
from authsvc.diagnosis import Level, Report
from authsvc.diagnosis.client_credentials import check_expiry
from authsvc.net.client_identity import ClientIdentity
from authsvc.server.config import ExchangeSettings
from tests.support.clock import START
from tests.support.https import PrivateAuthority

HOUR, DAY = 3_600.0, 86_400.0


def table(**settings: object) -> ExchangeSettings:
    return ExchangeSettings.model_validate(
        {
            "issuers": ["https://idp.example"],
            "endpoint": "https://idp.example/token",
            "client_id": "authsvc",
            **settings,
        }
    )


@pytest.mark.parametrize(
    ("days", "left", "level"),
    [
        (90, 23 * DAY, Level.OK),
        (90, 22 * DAY, Level.WARN),
        (90, 0.0, Level.FAIL),
        (90, 91 * DAY, Level.FAIL),
        # One of an hour, as SPIFFE has them, is renewed at half of its life.
        (1 / 24, 0.4 * HOUR, Level.OK),
        (1 / 24, 0.2 * HOUR, Level.WARN),
    ],
)
def test_a_certificate(tmp_path: Path, days: float, left: float, level: Level) -> None:
    authority = PrivateAuthority(tmp_path)
    signed = authority.client(days=days)
    file = tmp_path / "both.pem"
    file.write_bytes(signed.key_pem() + signed.certificate_pem())
    files = {"client_certificate_file": file, "client_certificate_key_file": file}
    settings = table(auth_method="tls_client_auth", **files)
    identity = ClientIdentity(file, file)
    report = Report("credentials")
    usable = check_expiry(report, settings, "t", identity, identity.expires - left)
    assert [it.level for it in report.findings] == [level]
    assert usable is (level is not Level.FAIL)
    assert report.findings[0].text.startswith("t.client_certificate_file: the certificate ")


@pytest.mark.parametrize(
    ("expires", "level"), [(START + 1, Level.OK), (START, Level.FAIL), (None, Level.WARN)]
)
def test_an_assertion(tmp_path: Path, expires: float | None, level: Level) -> None:
    file = tmp_path / "assertion"
    claims = {} if expires is None else {"exp": expires}
    file.write_text(jwt.encode(claims, generate_private_key(SECP256R1()), "ES256"))
    settings = table(auth_method="client_assertion_file", client_assertion_file=file)
    report = Report("credentials")
    assert check_expiry(report, settings, "t", None, START) is (level is not Level.FAIL)
    assert [it.level for it in report.findings] == [level]
    file.write_text("hush")
    with pytest.raises(ConfigError, match=r"t\.client_assertion_file: .*holds no JWT"):
        check_expiry(report, settings, "t", None, START)


def test_a_secret_does_not_expire(tmp_path: Path) -> None:
    report = Report("credentials")
    assert check_expiry(report, table(client_secret_file=tmp_path), "t", None, START)
    assert report.findings == []


@pytest.mark.parametrize(
    ("left", "level"), [(23 * DAY, Level.OK), (22 * DAY, Level.WARN), (0.0, Level.FAIL)]
)
def test_the_certificate_of_a_private_key(tmp_path: Path, left: float, level: Level) -> None:
    signed = PrivateAuthority(tmp_path).client(days=90)
    file = tmp_path / "both.pem"
    file.write_bytes(signed.key_pem() + signed.certificate_pem())
    settings = table(
        auth_method="private_key_jwt", private_key_file=file, private_key_certificate_file=file
    )
    report = Report("credentials")
    # A server that looks at the thumbprint alone takes it: it is asked.
    assert check_expiry(report, settings, "t", None, ClientIdentity(file, file).expires - left)
    (finding,) = report.findings
    assert finding.level is level
    assert finding.text.startswith("t.private_key_certificate_file: the certificate expire")
    file.write_bytes(signed.key_pem())
    with pytest.raises(ConfigError, match=r"^t.private_key_certificate_file: .* no certif"):
        check_expiry(report, settings, "t", None, START)
