"""The page and the example of tests for users' servers, run as a user runs them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

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
    assert run(ROOT / "examples" / "tested_server", tmp_path).startswith("5 passed")


def test_the_page_passes(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "testing.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (fixtures,) = (block for block in blocks if "pytest_plugins" in block)
    blocks.remove(fixtures)
    (tmp_path / "conftest.py").write_text(fixtures)
    (tmp_path / "test_page.py").write_text("\n\n".join(blocks))
    assert run(tmp_path, tmp_path / "cache").startswith("2 passed")
