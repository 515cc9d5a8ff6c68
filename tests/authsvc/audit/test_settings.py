"""``[audit]`` opens what it names, or says why not."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from authsvc.audit.calls import CallEvent, CallOutcome
from authsvc.audit.settings import AuditFileSettings
from authsvc.common.settings import ConfigError
from mcp_adapter.server.config import Settings as AdapterSettings
from tests.support.service import settings_for
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider


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


def test_a_file_that_another_setting_names(tmp_path: Path, idp: IdentityProvider) -> None:
    """Events would spoil a key or a database, and get it the permissions of a file of events."""
    for name in ("authsvc.db", "secret"):
        with pytest.raises(ValidationError, match="choose another one"):
            settings_for(tmp_path, idp, "sqlite", audit_file=tmp_path / name)
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(tmp_path)
        with pytest.raises(ValidationError, match="choose another one"):
            settings_for(tmp_path, idp, "sqlite", audit_file=tmp_path / "link" / name)
    key = {"ca_file": tmp_path / "ca", "service_token_file": tmp_path / "token"}
    adapter: dict[str, Any] = {
        "resource": RESOURCE,
        "authorization_servers": (ISSUER,),
        "authsvc": key,
    }
    for file, is_valid in (("token", False), ("calls", True)):
        audit = AuditFileSettings(calls="full", file=tmp_path / file)
        with nullcontext() if is_valid else pytest.raises(ValidationError, match="service_token"):
            AdapterSettings(audit=audit, **adapter)


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
