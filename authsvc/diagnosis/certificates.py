"""The files of certificates: when they expire, and authorities that verifiers mistake."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509

from authsvc.common.times import relative
from authsvc.diagnosis import Check, Report
from authsvc.net.certificate_files import mistaken_authorities, validity_of
from authsvc.net.validity import UNUSABLE, State, Validity

_REMEDIES = {
    State.EXPIRED: "Replace the file; it is read again by itself.",
    State.ENDS_SOON: "Renew it, and replace the file; it is read again by itself.",
    State.NOT_YET_VALID: "Correct this machine's clock, or have it issued anew.",
    State.UNUSABLE: "Write PEM certificates to it, which the program's user can read.",
}


def check(files: Mapping[str, Path | None]) -> Check:
    """Whether the certificates of files are valid, and for how long.

    Args:
        files: by setting; None for one that is not set.
    """

    async def look(report: Report) -> None:
        for setting, path in files.items():
            if path is not None:
                validity = validity_of(path)
                if validity != UNUSABLE:  # another check reports that
                    report_validity(report, f"{setting} {path}", validity, time.time())
                for text in mistaken_authorities(path):
                    report.warn(f"{setting} {path}: {text}", "See docs/operations.md, Rotation.")

    return Check("certificates", look, "")


def validity_stated(certificate: x509.Certificate) -> Validity:
    """How long a certificate is valid, as it says."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return Validity(begins.timestamp(), ends.timestamp())


def report_validity(
    report: Report, what: str, validity: Validity, now: float, *, names: str = ""
) -> None:
    """Report when a certificate expires, with the date."""
    state = validity.state(now)
    text = f"{what} {validity.described(now)}"
    if state in {State.EXPIRED, State.ENDS_SOON, State.VALID}:
        text += f", {relative(validity.ends, now)}"
    if state is State.VALID:
        report.ok(text + names)
    elif state is State.ENDS_SOON:
        report.warn(text, _REMEDIES[state])
    else:
        report.fail(text, _REMEDIES[state])
