"""Commands as they are run: real processes, piped or on a terminal."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from authsvc.cli import main
from tests.support.bounds import TIMEOUT_SECONDS

ROOT = Path(__file__).parents[2]

SECONDS = TIMEOUT_SECONDS

PATIENT = ("--timeout-seconds", str(SECONDS / 2))
"""What a command is given that a busy machine must not time out; it ends before ``SECONDS``."""


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:  # noqa: ANN401 - whatever the command prints
        """What it printed."""
        return json.loads(self.out)


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without anybody's settings, and ``more``."""
    mine = {name: it for name, it in os.environ.items() if not name.startswith("AUTHSVC_")}
    return {**mine, **(more or {})}


async def run(*arguments: str | Path, given: str = "", env: Mapping[str, str] | None = None) -> Ran:
    """Run ``authsvc`` to its end, with ``given`` on its standard input."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "authsvc"),
        *map(str, arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(env),
        cwd=ROOT,
    )
    try:
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate(given.encode("utf-8", "surrogateescape"))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ran(process.returncode or 0, out.decode(), err.decode())


async def run_here(*arguments: str | Path) -> Ran:
    """Run ``authsvc`` in a thread of this process, piped: at a small part of a process's cost."""
    ran = await asyncio.to_thread(CliRunner().invoke, main, list(map(str, arguments)))
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    return Ran(ran.exit_code, ran.stdout, ran.stderr)


def run_on_terminal(*arguments: str | Path, given: str = "") -> Ran:
    """Run ``authsvc`` on a terminal, where ``given`` is typed: ``out`` is all it shows."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "authsvc", *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment({"TERM": "xterm-256color", "COLUMNS": "200"}),
        cwd=ROOT,
        close_fds=True,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            os.write(ours, given.encode())
            shown = _drained(ours)
            code = process.wait(SECONDS)
        finally:
            process.kill()
            os.close(ours)
    return Ran(code, shown, "")


def _drained(terminal: int) -> str:
    """All that is written to a terminal until nobody holds it any more."""
    shown = bytearray()
    while True:
        try:
            chunk = os.read(terminal, 65_536)
        except OSError as error:
            if error.errno == errno.EIO:
                break
            raise
        if not chunk:
            break
        shown += chunk
    return shown.decode()
