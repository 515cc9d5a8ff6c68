"""The paths and targets that CONTRIBUTING.md names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*|\.ci/run)`|\b(docs/[\w.-]+\.md)\b", PAGE)))
FOLDERS = ("authsvc", "mcp_adapter")


@pytest.mark.parametrize("path", [name or page for name, page in PATHS])
def test_what_it_names_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_its_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"`?make ([\w-]+)", PAGE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_folder_has_a_place_in_the_tree() -> None:
    tree = PAGE.partition("## The tree")[2].partition("\n## ")[0]
    unnamed = {"http_server", "common", "v1", "internal"}  # nobody begins there
    for package in FOLDERS:
        for folder in (ROOT / package).iterdir():
            if (folder / "__init__.py").exists() and folder.name not in unnamed:
                assert f"`{package}/{folder.name}/`" in tree, folder.name


def test_the_gate_s_index_has_each_of_its_modules_once() -> None:
    folder = ROOT / "mcp_adapter" / "gate"
    index = re.findall(r"^- ``(\w+)``: ", (folder / "__init__.py").read_text(), re.MULTILINE)
    assert sorted(index) == sorted({path.stem for path in folder.glob("*.py")} - {"__init__"})
