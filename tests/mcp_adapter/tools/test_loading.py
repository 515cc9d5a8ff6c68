"""Which tools are served: those that settings name, and no others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from authsvc.common.settings import ConfigError, load
from mcp_adapter.server.config import Settings
from mcp_adapter.tools.cli import main
from mcp_adapter.tools.loading import OWN, selected
from mcp_adapter.tools.reference import reference
from mcp_adapter.tools.settings import ToolsSettings
from tests.support.bounds import TIMEOUT_SECONDS

DOCUMENT = Path(__file__).parents[3] / "docs" / "reference" / "tools.md"

TOOL = '''
from pydantic import BaseModel
from mcp_adapter.tools import Call, tool

class Answer(BaseModel):
    text: str

@tool(title="{name}", scopes=("s",), read_only={read_only})
async def {name}(call: Call) -> Answer:
    """Do it."""
    return Answer(text="done")
'''


class Packages:
    """Modules as they might be installed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, text: str) -> None:
        path = self._folder / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Packages]:
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield Packages(tmp_path)
    for name in set(sys.modules) - before:
        del sys.modules[name]


def names(settings: ToolsSettings) -> list[str]:
    return [tool.name for tool in selected(settings)]


def complaint(**settings: tuple[str, ...]) -> str:
    with pytest.raises(ConfigError) as caught:
        selected(ToolsSettings(**settings))
    return str(caught.value)


def test_nothing_that_changes_anything_is_served_by_default() -> None:
    assert all(tool.read_only for tool in selected(ToolsSettings()))
    assert [tool.name for tool in OWN if not tool.read_only] == [
        "bucket_object_put",
        "bucket_object_delete",
    ]


def test_each_tool_that_changes_something_is_named() -> None:
    served = names(ToolsSettings(writes=("bucket_object_put",)))
    assert "bucket_object_put" in served
    assert "bucket_object_delete" not in served


def test_tools_of_a_package_come_after_the_adapters_own(packages: Packages) -> None:
    packages.write("mine", TOOL.format(name="second", read_only=True))
    packages.write("pack.inner", TOOL.format(name="third", read_only=True))
    packages.write("pack.__init__", "from pack.inner import third\nfrom mine import second\n")

    served = names(ToolsSettings(packages=("mine", "pack")))

    assert served[-2:] == ["second", "third"]  # and second is not pack's for being imported there
    assert served[:-2] == names(ToolsSettings())


def test_tools_that_cannot_be_served_are_reported_before_the_start(packages: Packages) -> None:
    packages.write("empty", "")
    packages.write("broken", "import no_such_module_at_all")
    packages.write("again", TOOL.format(name="whoami", read_only=True))
    packages.write("writer", TOOL.format(name="scribble", read_only=False))

    assert "tools.packages: absent cannot be imported" in complaint(packages=("absent",))
    assert "no_such_module_at_all" in complaint(packages=("broken",))
    assert "empty has no tools" in complaint(packages=("empty",))
    assert "several tools named whoami" in complaint(packages=("again",))
    assert "several tools named scribble" in complaint(packages=("writer", "writer"))
    assert "tools.writes: whoami:" in complaint(writes=("whoami",))
    assert "bucket_object_put" in complaint(writes=("bucket_object_putt",))
    assert "scribble" in complaint(writes=("nothing",), packages=("writer",))


def test_settings_name_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "adapter.toml"
    config.write_text(
        'resource = "https://mcp.example/mcp"\nauthorization_servers = ["https://idp.example"]\n'
        '[tools]\npackages = ["mine"]\n'
    )
    monkeypatch.setenv("MCP_ADAPTER_TOOLS__WRITES", '["bucket_object_put"]')
    loaded = load(Settings, config).tools
    assert loaded == ToolsSettings(packages=("mine",), writes=("bucket_object_put",))


def test_a_package_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    config = tmp_path / "adapter.toml"
    config.write_text(
        'resource = "https://mcp.example/mcp"\nauthorization_servers = ["https://idp.example"]\n'
        'listen = "127.0.0.1:0"\n[tools]\npackages = ["absent"]\n'
    )
    started = subprocess.run(
        [sys.executable, "-m", "mcp_adapter", "serve", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert started.returncode == 2
    assert "tools.packages: absent cannot be imported" in started.stderr


def test_the_document_is_what_the_declarations_say() -> None:
    assert reference(OWN) in DOCUMENT.read_text(encoding="utf-8")


def test_the_reference_of_a_package_can_be_printed(packages: Packages) -> None:
    packages.write("printed", TOOL.format(name="scribble", read_only=False))

    printed = CliRunner().invoke(main, ["printed"])
    absent = CliRunner().invoke(main, ["no_such_package"])

    assert printed.exit_code == 0
    assert printed.output.startswith(
        "### `scribble`\n\nDo it.\n\nNeeds scope `s`. Changes something"
    )
    assert absent.exit_code == 2
    assert "no_such_package cannot be imported" in absent.output
