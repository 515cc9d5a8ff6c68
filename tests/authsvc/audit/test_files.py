"""Files of events: private, followed, in whole lines, and reported where they cannot be written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from authsvc.audit import security
from authsvc.audit.call_sinks import FileSink
from authsvc.audit.calls import AuditFormat, CallEvent, CallOutcome
from authsvc.audit.private_file import PrivateFile, check_file, is_unread_pipe
from authsvc.audit.security import SecurityEvent, SecurityEventType
from authsvc.audit.security_file import SecurityFile, appending_to_file
from authsvc.audit.write_failures import REPORT_SECONDS, WriteFailures
from tests.support.bounds import TIMEOUT_SECONDS

USABLE = ("a file", "a pipe", "a device", "new", "in a new folder")
UNUSABLE = (
    *("a folder", "a link", "a dangling link", "below a file"),
    "below a dangling link",
)
EVENTS = [(0.0, CallEvent("tools/list", CallOutcome.SUCCEEDED))]


Append = Callable[[Path], SecurityFile]


@pytest.fixture
def appended() -> Iterator[Append]:
    """Appends security events to a file."""
    with ExitStack() as closing:
        yield lambda path: closing.enter_context(appending_to_file(path))


def happens(detail: str) -> None:
    """An event that is in the log, too."""
    security.record(SecurityEvent(SecurityEventType.SERVICE_STARTED, detail=detail))


class Disk:
    """``os.write`` of a disk that takes ``room`` more bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = 0
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, descriptor: int, data: bytes) -> int:
        part = data[: self.room]
        self.room -= len(part)
        if not part:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._write(descriptor, part)


def reports(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [
        (record.__dict__["lost"], record.__dict__["error"])
        for record in caplog.records
        if record.name == "authsvc.audit"
    ]


def test_the_file_stays_private_and_is_followed(tmp_path: Path, appended: Append) -> None:
    path = tmp_path / "folder" / "events.jsonl"
    path.parent.mkdir()
    path.touch(mode=0o644)
    appended(path)
    happens("one")
    path.rename(tmp_path / "rotated")
    happens("two")
    path.unlink()
    happens("three")
    assert "one" in (tmp_path / "rotated").read_text()
    assert json.loads(path.read_text())["detail"] == "three"
    assert path.stat().st_mode & 0o077 == 0


def test_a_link_is_not_written_through(tmp_path: Path, appended: Append) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        appended(tmp_path / "link")
    path = tmp_path / "events"
    appended(path)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    happens("one")
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fchmod(descriptor: int, mode: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", fchmod)
    with pytest.raises(PermissionError):
        PrivateFile(tmp_path / "events")


def files_of_all_kinds(folder: Path) -> dict[str, Path]:
    """Files by what they are."""
    (folder / "file").write_text("line\n")
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to(folder / "file")
    (folder / "dangling").symlink_to(folder / "nowhere")
    return {
        "a file": folder / "file",
        "a pipe": folder / "pipe",
        "a device": Path(os.devnull),
        "new": folder / "new",
        "in a new folder": folder / "some" / "folders" / "new",
        "a folder": folder,
        "a link": folder / "link",
        "a dangling link": folder / "dangling",
        "below a file": folder / "file" / "new",
        "below a dangling link": folder / "dangling" / "below" / "new",
    }


@pytest.mark.parametrize("kind", [*USABLE, *UNUSABLE])
def test_a_check_finds_what_opening_would(tmp_path: Path, kind: str) -> None:
    path = files_of_all_kinds(tmp_path)[kind]
    before = sorted((it, it.lstat().st_mode) for it in tmp_path.rglob("*"))

    def succeeds(action: Callable[[Path], object]) -> bool:
        try:
            action(path)
        except OSError:
            return False
        return True

    checked = succeeds(check_file)
    assert sorted((it, it.lstat().st_mode) for it in tmp_path.rglob("*")) == before
    assert checked == succeeds(lambda it: PrivateFile(it).close()) == (kind in USABLE)


def test_a_pipe_without_a_reader(tmp_path: Path) -> None:
    files = files_of_all_kinds(tmp_path)
    assert [kind for kind, path in files.items() if is_unread_pipe(path)] == ["a pipe"]
    file = PrivateFile(files["a pipe"])
    assert not is_unread_pipe(files["a pipe"])
    file.close()


def test_a_check_needs_the_files_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.jsonl"
    path.touch()
    owner = path.stat().st_uid
    for user, is_usable in ((owner, True), (0, True), (owner + 1, False)):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        if is_usable:
            check_file(path)
        else:
            with pytest.raises(PermissionError, match="Operation not permitted"):
                check_file(path)
    check_file(Path(os.devnull))


def test_a_check_needs_a_folder_to_write_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def access(path: Path, mode: int) -> bool:
        asked.append((path, mode))
        return False

    monkeypatch.setattr(os, "access", access)
    with pytest.raises(PermissionError, match="Permission denied"):
        check_file(tmp_path / "new" / "events.jsonl")
    assert asked == [(tmp_path, os.W_OK | os.X_OK)]


def test_a_rotation_is_noticed_in_time(tmp_path: Path) -> None:
    now = 0.0
    file = PrivateFile(tmp_path / "events", check_seconds=1.0, clock=lambda: now)
    (tmp_path / "events").rename(tmp_path / "rotated")
    file.append(b"one\n")
    now = 1.0
    file.append(b"two\n")
    (tmp_path / "events").rename(tmp_path / "rotated again")
    now = 1.5
    file.append(b"three\n")
    now = 2.0
    file.append(b"four\n")
    file.close()
    assert (tmp_path / "rotated").read_bytes() == b"one\n"
    assert (tmp_path / "rotated again").read_bytes() == b"two\nthree\n"
    assert (tmp_path / "events").read_bytes() == b"four\n"


def test_a_relative_path_outlives_a_change_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = PrivateFile(Path("events"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    file.append(b"one\n")
    file.close()
    assert (tmp_path / "events").read_bytes() == b"one\n"


def test_a_closed_file_is_not_written(tmp_path: Path) -> None:
    file = PrivateFile(tmp_path / "events")
    file.close()
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.append(b"one\n")


def test_a_line_that_did_not_fit_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events"
    mine, other = PrivateFile(path), PrivateFile(path)
    disk = Disk(monkeypatch)
    disk.room = 6
    with pytest.raises(OSError, match="No space"):
        mine.append(b"a long line\n")
    disk.room = 1000
    other.append(b"two\n")
    mine.append(b"three\n")
    disk.room = 3
    with pytest.raises(OSError, match="No space"):
        other.append(b"a long line\n")
    disk.room = 1000
    mine.append(b"four\n")
    mine.append(b"five\n")
    assert path.read_bytes() == b"a long\ntwo\nthree\na l\nfour\nfive\n"
    mine.close()
    other.close()


def test_a_line_that_another_process_is_writing_is_no_part_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers of JSON lines take no empty one."""
    path = tmp_path / "events.jsonl"
    file = PrivateFile(path)
    with path.open("ab", buffering=0) as other:
        other.write(b'{"a": ')
        monkeypatch.setattr("time.sleep", lambda _: other.write(b"1}\n"))
        file.append(b'{"b": 2}\n')
    file.close()
    assert path.read_bytes() == b'{"a": 1}\n{"b": 2}\n'


def test_a_pipe_is_written_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    file = PrivateFile(path)
    reader = os.open(path, os.O_RDONLY)
    file.append(b"one\n")
    assert os.read(reader, 100) == b"one\n"
    os.close(reader)
    file.close()


def test_a_security_event_waits_for_no_reader_of_a_pipe(
    tmp_path: Path, appended: Append, caplog: pytest.LogCaptureFixture
) -> None:
    """It is written in the event loop: a reader that stops would stop all requests."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    appended(path)
    for number in range(1_000):
        happens(str(number))
    assert reports(caplog) == [(1, "Resource temporarily unavailable")]
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    lines = os.read(reader, 1024 * 1024).splitlines()
    assert 0 < len(lines) < 1_000
    assert [json.loads(line)["detail"] for line in lines] == [*map(str, range(len(lines)))]
    happens("kept")
    assert json.loads(os.read(reader, 1024 * 1024))["detail"] == "kept"
    os.close(reader)


def test_a_line_that_is_part_in_a_pipe_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    file = PrivateFile(path, waits=False)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    long = b"x" * (4 * 1024 * 1024) + b"\n"
    with pytest.raises(BlockingIOError):
        file.append(long)
    with pytest.raises(BlockingIOError):
        file.append(b"lost\n")
    assert set(os.read(reader, len(long))) == set(b"x")
    file.append(b"one\n")
    file.append(b"two\n")
    assert os.read(reader, 100) == b"\none\ntwo\n"
    os.close(reader)
    file.close()


def test_the_permissions_of_a_device_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs use it, and root may change them."""
    changed: list[int] = []
    monkeypatch.setattr(os, "fchmod", lambda descriptor, mode: changed.append(mode))
    file = PrivateFile(Path("/dev/null"))
    file.append(b"one\n")
    file.close()
    assert changed == []


def test_a_full_disk_fails_no_request_and_is_reported_with_counts(
    tmp_path: Path,
    appended: Append,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = appended(tmp_path / "events")
    disk = Disk(monkeypatch)
    for _ in range(10):
        happens("lost")
    disk.room = 10_000
    happens("kept")
    assert json.loads((tmp_path / "events").read_text())["detail"] == "kept"
    assert reports(caplog) == [(1, "No space left on device")]
    assert "Traceback" not in capsys.readouterr().err
    file.close()
    assert reports(caplog)[1:] == [(9, "No space left on device")]


def test_a_real_full_disk_counts_what_is_lost(
    appended: Append, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    file = appended(Path("/dev/full"))
    for _ in range(10):
        happens("lost")
    assert file.counts == {"written": 0, "failed": 10}
    assert reports(caplog) == [(1, "No space left on device")]
    assert capfd.readouterr().err == ""


def test_a_line_at_the_end_of_the_space_is_followed_by_whole_ones(tmp_path: Path) -> None:
    """In a process that may write 200 bytes to a file, and then more."""
    program = """
import resource, sys
from pathlib import Path
from authsvc.audit.security import SecurityEvent, SecurityEventType
from authsvc.audit.security_file import SecurityFile
file = SecurityFile(Path(sys.argv[1]), lambda event, when: event.detail)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
for number in range(6):
    resource.setrlimit(resource.RLIMIT_FSIZE, (200 if number < 4 else most, most))
    detail = f"{number}:" + "x" * 77
    file.take(SecurityEvent(SecurityEventType.SERVICE_STARTED, detail=detail), 0.0)
print(dict(file.counts))
file.close()
"""
    path = tmp_path / "events"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=True,
    )
    assert done.stdout == "{'written': 4, 'failed': 2}\n"
    assert done.stderr.count("\n") == 2  # the reports, of the first one and at the end
    assert [line[:2] for line in path.read_text().splitlines()] == ["0:", "1:", "2:", "4:", "5:"]
    assert [len(line) for line in path.read_text().splitlines()] == [79, 79, 40, 79, 79]


def test_a_line_that_cannot_be_made_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: SecurityEvent, when: float) -> str:
        raise KeyError("a value that is not shown")

    file = SecurityFile(tmp_path / "events", broken)
    assert not file.take(SecurityEvent(SecurityEventType.SERVICE_STARTED), 0.0)
    assert reports(caplog) == [(1, "KeyError")]
    file.close()


def test_failures_are_reported_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    failures = WriteFailures("file", clock=lambda: now)
    full = OSError(errno.ENOSPC, "No space left on device")
    failures.written()
    failures.failed(1, full)
    for _ in range(5):
        failures.failed(2, full)
    failures.written()
    assert [lost for lost, _ in reports(caplog)] == [1]
    now = REPORT_SECONDS
    failures.written()
    failures.written()
    failures.close()
    assert [lost for lost, _ in reports(caplog)] == [1, 10]


@pytest.mark.parametrize("audit_format", ["json", "ocsf"])
def test_calls_on_a_full_disk(
    tmp_path: Path,
    audit_format: AuditFormat,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = FileSink(tmp_path / "calls", audit_format, 1.0)
    disk = Disk(monkeypatch)
    assert not sink.write(EVENTS)
    assert not sink.report_dropped(3)
    assert [record.name for record in caplog.records] == ["authsvc.audit"]
    disk.room = 10_000
    assert sink.write(EVENTS)
    assert sink.report_dropped(3)
    sink.close()
    assert len((tmp_path / "calls").read_text().splitlines()) == 2
    # The report that failed is no call that is lost.
    assert reports(caplog) == [(1, "No space left on device")]
    text = caplog.records[0].getMessage()
    assert text.startswith("audit: events were not written: 1 lost, ")
    assert text.endswith("calls: No space left on device")
    assert [r.__dict__["count"] for r in caplog.records if r.name == "authsvc.calls"] == [3]


def test_a_security_event_does_not_wait_for_calls(
    tmp_path: Path, appended: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk holds up the writer of calls, security events are written to the same file."""
    path = tmp_path / "events"
    held, release = threading.Event(), threading.Event()
    write = os.write

    def slow_for_calls(descriptor: int, data: bytes) -> int:
        if b"tools/list" in data:
            held.set()
            assert release.wait(TIMEOUT_SECONDS)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", slow_for_calls)
    sink = FileSink(path, "json", 1.0)
    appended(path)
    writer = threading.Thread(target=sink.write, args=(EVENTS,))
    writer.start()
    assert held.wait(TIMEOUT_SECONDS)
    happens("security")
    assert json.loads(path.read_text())["detail"] == "security"
    release.set()
    writer.join(TIMEOUT_SECONDS)
    sink.close()
    assert len(path.read_text().splitlines()) == 2
