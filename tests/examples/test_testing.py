"""The page and the example of tests for users' servers, run as a user runs them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.processes import ROOT


def run(folder: Path, cache: Path) -> str:
    """``pytest`` in a folder, with a configuration of its own; its last line."""
    arguments = ("--rootdir", ".", "-c", "/dev/null", "-o", f"cache_dir={cache}", ".")
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-m", "pytest", "-q", "-p", "no:xdist", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def test_the_example_passes(tmp_path: Path) -> None:
    assert run(ROOT / "examples" / "tested_server", tmp_path).startswith("6 passed")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's tests and its conftest.py."""
    folder = tmp_path_factory.mktemp("page")
    text = (ROOT / "docs" / "testing.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (fixtures,) = (block for block in blocks if "pytest_plugins" in block)
    blocks.remove(fixtures)
    (folder / "conftest.py").write_text(fixtures)
    (folder / "test_page.py").write_text("\n\n".join(blocks))
    return folder


def test_the_page_passes(page: Path, tmp_path: Path) -> None:
    assert run(page, tmp_path / "cache").startswith("5 passed")


def test_the_page_is_typed(page: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file", "/dev/null"),
            *("--cache-dir", str(tmp_path), "conftest.py", "test_page.py"),
        ],
        cwd=page,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
