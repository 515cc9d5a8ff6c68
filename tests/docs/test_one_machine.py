"""The operator's guide for one machine does what it shows, command by command."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.commands import environment
from tests.support.processes import ROOT, spawn
from tests.support.valkey import free_port

PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## An operator on one machine")[2].partition("\n## ")[0]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)


@pytest.fixture(autouse=True)
def _programs() -> None:
    """The programs that the page's commands use besides ours."""
    for program in ("bash", "curl", "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}; run: apt-get install {program}")


@pytest.fixture
def ports() -> dict[str, int]:
    """What the page calls its ports, and ports that are free."""
    return {"50051": free_port(), "8000": free_port()}


@pytest.fixture
def folder(tmp_path: Path, ports: dict[str, int]) -> Path:
    """The folder with the files of the page."""
    shell(blocks("sh")[0], tmp_path)
    for content in blocks("toml"):
        name, _, rest = content.removeprefix("# ").partition("\n")
        (tmp_path / name).write_text(moved(rest, ports))
    return tmp_path


@pytest.fixture
def _servers(folder: Path) -> Iterator[None]:
    with ExitStack() as running:
        for line in blocks("sh")[1].splitlines():
            program, *arguments = line.split()
            module = program.replace("-", "_")
            process = running.enter_context(spawn(module, *arguments, cwd=folder))
            process.wait_for("listening on", TIMEOUT_SECONDS)
        yield


def moved(text: str, ports: dict[str, int]) -> str:
    """The text with the ports that are free."""
    for name, port in ports.items():
        text = text.replace(f"127.0.0.1:{name}", f"127.0.0.1:{port}")
    return text


def shell(script: str, folder: Path) -> str:
    """What a script prints that is run as a user would, with the programs on the PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/bash", "-e", "-u", "-c", script],
        cwd=folder,
        env=environment({"PATH": path}),
        capture_output=True,
        text=True,
        check=False,
        timeout=4 * TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def alike(text: str) -> list[str]:
    """The words of each line, without what differs from run to run."""
    text = re.sub(r"\S{8}…", "SESSION…", text)
    text = re.sub(r"  (now|\d+ s ago)  +in 2[34] h.*", "  SEEN EXPIRES", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", text)
    return [" ".join(line.split()) for line in text.splitlines()]


@pytest.mark.usefixtures("_servers")
def test_the_commands_do_what_is_shown(folder: Path, ports: dict[str, int]) -> None:
    (transcript,) = blocks("console")
    commands = [line[2:] for line in transcript.splitlines() if line.startswith("$ ")]
    shown = [line for line in transcript.splitlines() if not line.startswith("$ ")]

    printed = shell(moved("\n".join([blocks("sh")[2], *commands]), ports), folder)

    assert alike(printed) == alike("\n".join(shown))
