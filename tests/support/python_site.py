"""Python processes that lack a module, or in which something is forbidden."""

from __future__ import annotations

from pathlib import Path

import pytest

_WITHOUT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        return None

sys.meta_path.insert(0, Blocked())
"""


def begin_processes_without(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, code: str = ""
) -> None:
    """Python processes that start from here on cannot import ``module``, and run ``code`` first."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_WITHOUT.format(module=module) + code)
    monkeypatch.setenv("PYTHONPATH", str(site))
