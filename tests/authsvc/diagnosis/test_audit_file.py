"""The doctor looks at the files of events."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from secrets import token_hex
from threading import Event
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from authsvc.cli import main
from authsvc.diagnosis import Level, Report, diagnose
from authsvc.diagnosis.adapter import AdapterSettings, Audit
from authsvc.diagnosis.audit_file import _check, checks
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.service import settings_for
from tests.support.tokens import RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio


class Usage(NamedTuple):
    """What is read of ``shutil.disk_usage``."""

    free: int


async def found(
    folder: Path, idp: IdentityProvider, own: Path | None, of_adapter: Path | None = None
) -> list[tuple[str, str]]:
    settings = settings_for(folder, idp, audit_file=own)
    adapter = AdapterSettings(
        resource=RESOURCE, authorization_servers=("https://idp",), audit=Audit(file=of_adapter)
    )
    looked = diagnose(checks(settings, adapter), timeout_seconds=TIMEOUT_SECONDS)
    return [(str(it.level), it.text) async for it in looked]


@pytest.mark.parametrize("is_adapters", [False, True])
async def test_each_kind_of_file(tmp_path: Path, idp: IdentityProvider, is_adapters: bool) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    name = "[audit] file of the adapter" if is_adapters else "audit_file"

    async def look(file: str) -> tuple[str, str]:
        path = tmp_path / file
        files = (None, path) if is_adapters else (path, None)
        ((level, text),) = await found(tmp_path, idp, *files)
        assert text.startswith(f"{name}: ")
        return level, text.removeprefix(f"{name}: ").replace(str(tmp_path), "")

    assert await look("link") == ("fail", "/link: Too many levels of symbolic links")
    assert await look("") == ("fail", ": Is a directory")
    assert await look("file/below") == ("fail", "/file/below: Not a directory")
    assert await look("pipe") == ("warn", "nobody reads the pipe /pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert await look("pipe") == ("ok", "/pipe can be written")
    before = sorted(tmp_path.iterdir())
    for file in ("file", "new", "some/new/folder"):
        level, text = await look(file)
        assert level in ("ok", "warn")
        assert text.startswith(f"/{file} can be written; ")
    os.close(reader)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize(
    ("free", "level", "text"),
    [
        (0, "warn", "can be written; 0.0 MiB are free"),
        (99 << 20, "warn", "can be written; 99.0 MiB are free"),
        (512 << 20, "warn", "can be written; 512.0 MiB are free"),
        (3 << 30, "ok", "can be written; 3.0 GiB are free"),
    ],
)
async def test_free_space(
    tmp_path: Path,
    idp: IdentityProvider,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    level: str,
    text: str,
) -> None:
    monkeypatch.setattr("authsvc.diagnosis.audit_file.shutil.disk_usage", lambda _: Usage(free))
    ((of, said),) = await found(tmp_path, idp, tmp_path / "events")
    assert (of, said.endswith(text)) == (level, True)


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "Free space"),
        (errno.EDQUOT, "Raise the quota"),
        (errno.EIO, "Mend the file system"),
    ],
)
async def test_a_file_system_that_takes_no_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str, is_there: bool
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("authsvc.diagnosis.audit_file.shutil.disk_usage", lambda _: Usage(9 << 30))
    monkeypatch.setattr("authsvc.diagnosis.space.os.fsync", fail)
    path, report = tmp_path / "events", Report("audit")
    if is_there:
        path.write_text("line\n")
    _check(report, "audit_file", path)
    (fault,) = report.findings
    said = f"takes no writes: {os.strerror(number)}; 9.0 GiB are free"
    assert (fault.level, fault.text) == (
        Level.FAIL,
        f"audit_file: the file system of {path} {said}",
    )
    assert fault.remedy.startswith(remedy)
    assert path.exists() == is_there


@pytest.mark.parametrize(("free", "level"), [(0, Level.FAIL), (9 << 30, Level.OK)])
def test_a_folder_that_is_not_the_programs_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: Level
) -> None:
    """No write can be tried: a file beside it is not permitted, and a line of it would stay."""
    monkeypatch.setattr("authsvc.diagnosis.audit_file.os.access", lambda *_: False)
    monkeypatch.setattr("authsvc.diagnosis.audit_file.shutil.disk_usage", lambda _: Usage(free))
    monkeypatch.setattr("authsvc.diagnosis.audit_file.try_write", Path.rmdir)
    path, report = tmp_path / "events", Report("audit")
    path.touch()
    _check(report, "audit_file", path)
    assert [it.level for it in report.findings] == [level]


async def test_one_file_of_both_programs(tmp_path: Path, idp: IdentityProvider) -> None:
    assert await found(tmp_path, idp, None) == []
    path = tmp_path / "events"
    levels = [
        level for level, _ in await found(tmp_path, idp, path, tmp_path / "x" / ".." / "events")
    ]
    assert len(levels) == 3
    assert levels[-1] == "warn"


def test_a_disk_that_hangs_keeps_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end, ended = Event(), list[bool]()

    def hang(*_: object) -> None:
        may_end.wait(TIMEOUT_SECONDS)
        ended.append(True)

    monkeypatch.setattr("authsvc.diagnosis.audit_file._check", hang)
    config = tmp_path / "authsvc.toml"
    (tmp_path / "secret").write_text(token_hex(32))
    config.write_text(
        f'resources = ["{RESOURCE}"]\naudit_file = "{tmp_path}/events"\n[store]\nkind = "memory"\n'
        f'[[issuers]]\nissuer = "https://i.example"\nalgorithms = ["HS256"]\n'
        f'secret_file = "{tmp_path}/secret"\n'
    )
    try:
        options = ("--config", str(config), "--timeout-seconds", "1")
        ran = CliRunner().invoke(main, ["doctor", *options])
        assert f"{tmp_path}/events: did not answer in 1 s" in ran.output
        assert not ended
    finally:
        may_end.set()
