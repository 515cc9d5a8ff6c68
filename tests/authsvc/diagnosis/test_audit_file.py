"""The doctor looks at the files of events."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from authsvc.diagnosis import diagnose
from authsvc.diagnosis.adapter import AdapterSettings, Audit
from authsvc.diagnosis.audit_file import checks
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
    for file in ("pipe", "file", "new", "some/new/folder"):
        level, text = await look(file)
        assert level in ("ok", "warn")
        assert text.startswith(f"/{file} can be written; ")
    os.close(reader)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("free", "level", "text"),
    [
        (99 << 20, "fail", "99 MiB are free"),
        (512 << 20, "warn", "can be written; 0.5 GiB are free"),
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


async def test_one_file_of_both_programs(tmp_path: Path, idp: IdentityProvider) -> None:
    assert await found(tmp_path, idp, None) == []
    path = tmp_path / "events"
    levels = [
        level for level, _ in await found(tmp_path, idp, path, tmp_path / "x" / ".." / "events")
    ]
    assert len(levels) == 3
    assert levels[-1] == "warn"
