"""What the tests of the examples share."""

from __future__ import annotations

from pathlib import Path
from secrets import token_hex

import pytest

from tests.support.processes import ROOT


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples' own configuration of authsvc, with another address and folder."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "secret").write_text(token_hex(32))
    text = (ROOT / "examples" / "authsvc.toml").read_text()
    path = folder / "authsvc.toml"
    path.write_text(text.replace(":50051", ":0").replace("var/examples", str(folder)))
    return path
