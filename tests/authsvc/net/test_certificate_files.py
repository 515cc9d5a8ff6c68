"""When certificates end: what is logged, and from when on that is a warning."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from authsvc.net.certificate_files import CertificateFiles, validity_of
from authsvc.net.certificates import SignedCertificate, make_authority
from authsvc.net.validity import UNUSABLE, State, Validity
from tests.support.clock import Clock

pytestmark = pytest.mark.usefixtures("files_always_checked")

HOUR, DAY = 3_600.0, 86_400.0


@pytest.mark.parametrize(
    ("lifetime", "age", "state"),
    [
        # For development: 30 days.
        (30 * DAY, 60.0, State.VALID),
        (30 * DAY, 22 * DAY, State.VALID),
        (30 * DAY, 23 * DAY, State.ENDS_SOON),
        # Renewed at two thirds, as cert-manager does.
        (90 * DAY, 60 * DAY, State.VALID),
        (90 * DAY, 68 * DAY, State.ENDS_SOON),
        # Of SPIFFE, renewed at half.
        (HOUR, 60.0, State.VALID),
        (HOUR, 0.5 * HOUR, State.VALID),
        (HOUR, 0.8 * HOUR, State.ENDS_SOON),
        # An authority.
        (3_650 * DAY, 3_619 * DAY, State.VALID),
        (3_650 * DAY, 3_621 * DAY, State.ENDS_SOON),
        (HOUR, HOUR - 0.001, State.ENDS_SOON),
        (HOUR, HOUR, State.EXPIRED),
        (HOUR, -0.001, State.NOT_YET_VALID),
        (HOUR, 0.0, State.VALID),
    ],
)
def test_the_state_of_a_certificate_by_its_age(lifetime: float, age: float, state: State) -> None:
    begins = 1_800_000_000.0
    assert Validity(begins, begins + lifetime).state(begins + age) is state


def test_an_unusable_file_has_a_state_of_its_own() -> None:
    assert UNUSABLE.state(1_800_000_000.0) is State.UNUSABLE
    assert Validity(None, 5.0).state(4.0) is State.VALID


def test_a_file_ends_with_its_first_certificate(tmp_path: Path) -> None:
    made = [make_authority("CA", days=days) for days in (3, 1, 2)]
    path = tmp_path / "ca.pem"
    path.write_bytes(b"".join(map(SignedCertificate.certificate_pem, made)))
    first = made[1].certificate
    assert validity_of(path) == Validity(
        first.not_valid_before_utc.timestamp(), first.not_valid_after_utc.timestamp()
    )


@pytest.mark.parametrize("content", [None, b"", b"rubbish", b"-----BEGIN CERTIFICATE-----"])
def test_a_file_without_a_certificate_is_unusable(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    assert validity_of(path) == UNUSABLE


def test_each_end_is_logged_once_and_when_something_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    authority = make_authority("CA", days=8)
    path = tmp_path / "ca.pem"
    path.write_bytes(authority.certificate_pem())
    begins = authority.certificate.not_valid_before_utc.timestamp()
    ends = authority.certificate.not_valid_after_utc
    clock = Clock(begins + 300)
    files = CertificateFiles({"tls.client_ca_file": path, "tls.certificate_file": None}, clock)

    def logged() -> list[tuple[str, str]]:
        files.check()
        files.check()
        found = [(it.levelname, it.getMessage()) for it in caplog.records]
        caplog.clear()
        return found

    expires = f"tls.client_ca_file: {path} expires on {ends:%Y-%m-%d %H:%M:%S} UTC"
    assert logged() == [("INFO", expires)]
    assert logged() == []
    clock.now = ends.timestamp() - DAY
    assert logged() == [("WARNING", f"{expires}: renew it, and replace the file")]
    clock.now = ends.timestamp() + 1
    expired = f"{expires.replace('expires', 'expired')}: new connections fail until the file is "
    assert logged() == [("ERROR", f"{expired}replaced")]
    clock.now = begins - 1
    ((level, text),) = logged()
    assert (level, "is not valid before" in text, "clock" in text) == ("ERROR", True, True)
    path.write_text("")
    ((level, text),) = logged()
    assert (level, text.endswith("it holds no certificate that can be read")) == ("ERROR", True)
    path.write_bytes(authority.certificate_pem())
    clock.now = begins + 300
    assert logged() == [("INFO", expires)]
    files.report()
    assert logged() == [("INFO", expires)]
