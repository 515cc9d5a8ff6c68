"""``[audit]`` opens what it names, or says why not."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from authsvc.audit.calls import CallEvent, CallOutcome
from authsvc.audit.settings import AuditFileSettings
from authsvc.common.settings import ConfigError


def test_the_file_is_written(tmp_path: Path) -> None:
    settings = AuditFileSettings(calls="full", format="ocsf", file=tmp_path / "calls")
    audit = settings.opened(settings.file, "audit.file")
    audit.record(CallEvent("ping", CallOutcome.SUCCEEDED))
    audit.close()
    assert '"class_uid":6003' in (tmp_path / "calls").read_text()


def test_the_ratio_is_that_of_the_setting() -> None:
    audit = AuditFileSettings(calls="sampled", sample_ratio=1.0).opened(None, "audit.file")
    assert audit.wants()
    assert not AuditFileSettings().opened(None, "audit.file").wants()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    settings = AuditFileSettings(calls="full", file=tmp_path)
    with pytest.raises(ConfigError, match=r"^audit\.file: .*: Is a directory$"):
        settings.opened(settings.file, "audit.file")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sample_ratio": 0.1}, "sample_ratio"),
        ({"calls": "full", "format": "ocsf"}, "set file, too"),
        ({"file": "calls"}, "stays empty"),
    ],
)
def test_contradictions(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AuditFileSettings(**values)  # type: ignore[arg-type]
