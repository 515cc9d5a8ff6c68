"""Untrusted text neither controls a terminal nor forges a line of the log."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.cli.output import print_fields, print_line, print_table
from authsvc.common.printable import printable, printable_lines
from authsvc.telemetry import logs
from authsvc.telemetry.log_stream import LogStream

HOSTILE = {
    "escape": "\x1b[2J\x1b]0;title\x07",
    "C1": "\x9b2J\x85\x9d",
    "carriage return": "a\rINFO forged",
    "separators": "a\u2028b\u2029c",
    "bidi": "\u202egnp.exe\u202c\u2066\u2069\u200e",
    "invisible": "a\u200bb\ufeffc\u00adx",
    "delete": "a\x08\x7f",
}
BAD_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@contextmanager
def configured(
    stream: TextIO, log_format: logs.Format, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The log on a stream, as a program has it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", stream)
    root.handlers[:] = []
    try:
        logs.configure("info", log_format)
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@pytest.fixture(params=["console", "json"])
def written(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[io.StringIO]:
    """What is logged in a format, while the test runs."""
    text = io.StringIO()
    with configured(text, request.param, monkeypatch):
        yield text


def clean(text: str) -> bool:
    return not any(unicodedata.category(it) in BAD_CATEGORIES for it in text.replace("\n", ""))


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_no_control_character_is_logged(written: io.StringIO, hostile: str) -> None:
    log = logging.getLogger("test")
    log.warning("seen %s", hostile, extra={"subject": hostile, "many": [hostile], hostile: 1})
    try:
        raise ValueError(hostile)
    except ValueError:
        log.exception("failed %s", hostile, stack_info=True)
    assert "seen" in written.getvalue()
    assert clean(written.getvalue())


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_the_urls_of_requests_are_not_logged(written: io.StringIO, library: str) -> None:
    """Their queries may hold a secret."""
    logging.getLogger(library).info("HTTP Request: GET https://idp.example/jwks?key=hush")
    logging.getLogger(library).warning("unusual")
    assert "hush" not in written.getvalue()
    assert "unusual" in written.getvalue()


def test_no_line_can_be_forged(written: io.StringIO) -> None:
    """A reader takes what begins a line for an entry."""
    log = logging.getLogger("test")
    forged = "\n2026-11-28T00:00:00Z [info] all is well"
    log.warning("seen %s", forged, extra={"subject": forged})
    try:
        raise ValueError(forged)
    except ValueError:
        log.exception("failed")
    for line in written.getvalue().splitlines():
        assert not line.startswith("2026-11-28T00:00:00Z")
        if line.startswith("{"):
            json.loads(line)


def test_a_traceback_keeps_its_lines(written: io.StringIO) -> None:
    try:
        raise ValueError("of old")
    except ValueError:
        logging.getLogger("test").exception("failed")
    text = written.getvalue()
    assert "Traceback" in text
    assert "ValueError: of old" in text
    assert "test_logs.py" in text


def test_a_full_disk_gets_no_traceback_and_a_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path, log = tmp_path / "log", logging.getLogger("test")
    path.touch()
    with (
        path.open("a") as stream,
        path.open("a") as file,
        Path("/dev/full").open("a") as full,
        configured(stream, "json", monkeypatch),
    ):
        for _ in range(2):
            os.dup2(full.fileno(), stream.fileno())
            for number in range(100):
                log.warning("lost", extra={"number": number, "text": "x" * 1_000})
            os.dup2(file.fileno(), stream.fileno())
            log.warning("kept")
    # Lines may have waited in the stream's buffer; none is torn.
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines].count("kept") == 2
    reports = [line for line in lines if line["event"].startswith("log: lines were not written")]
    # At most once a minute.
    assert [(line["lost"], line["error"]) for line in reports] == [(100, "No space left on device")]
    assert "Traceback" not in path.read_text() + capfd.readouterr().err


def test_a_report_that_is_lost_itself_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flaky(io.StringIO):
        room = 0

        def write(self, text: str) -> int:
            self.room -= 1
            if self.room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(text)

    log, stream, now = logging.getLogger("test"), Flaky(), 0.0
    handler = LogStream(stream, lambda: now)
    with configured(io.StringIO(), "json", monkeypatch):
        logging.getLogger().handlers[:] = [handler]
        log.warning("lost")
        stream.room = 1
        log.warning("kept")  # and the report fails
        now = 61.0
        stream.room = 10
        log.warning("kept")
    assert stream.getvalue().splitlines() == [
        *("kept", "kept", "log: lines were not written: 2 lost, No space left on device")
    ]


@given(st.text())
def test_any_text_becomes_printable(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(text) == text or not text.isprintable()
    lines = printable_lines(text).split("\n")
    assert all(map(str.isprintable, lines))
    assert all(line.startswith("    ") for line in lines[1:])


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_the_command_line_escapes_control_characters(
    capsys: pytest.CaptureFixture[str], hostile: str
) -> None:
    print_line(hostile)
    print_fields([("subject", hostile)])
    print_table(["subject"], [[hostile]])
    assert clean(capsys.readouterr().out)
