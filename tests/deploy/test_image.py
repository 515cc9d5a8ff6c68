"""The image, built and run: as uid 10001, without capabilities, on a root that is read-only."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.containers import UID, built_image, in_container
from tests.support.processes import ROOT
from tests.support.tokens import ISSUER, IdentityProvider

OWN_LAYER_BYTES = 160_000_000
RESOURCE = "http://127.0.0.1/mcp"


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    with built_image() as root:
        yield root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Configuration and state, as volumes of a pod."""
    configuration, state = tmp_path / "configuration", tmp_path / "state"
    configuration.mkdir()
    state.mkdir()
    secret = IdentityProvider(time.time).write_secret(configuration)
    for path in (state, secret):
        os.chown(path, UID, UID)
    (configuration / "authsvc.toml").write_text(
        f"""
listen = "127.0.0.1:0"
drain_seconds = 0
resources = ["{RESOURCE}"]
[store]
path = "/var/lib/authsvc/authsvc.db"
[[issuers]]
issuer = "{ISSUER}"
algorithms = ["HS256"]
secret_file = "/etc/authsvc/secret"
"""
    )
    return tmp_path


def test_both_programs_serve_and_end_when_they_are_told(image: Path, folder: Path) -> None:
    configuration = ("--config", "/etc/authsvc/authsvc.toml")
    with in_container(image, folder, "authsvc", "serve", *configuration) as authsvc:
        address = str(authsvc.wait_for("listening on", TIMEOUT_SECONDS)["address"])
        status = Path(f"/proc/{authsvc.pid}/status").read_text()
        assert f"\nUid:\t{UID}\t{UID}\t{UID}\t{UID}\n" in status
        assert "\nCapEff:\t0000000000000000\n" in status
        with in_container(image, folder, "authsvc", "health", address) as health:
            assert health.wait(TIMEOUT_SECONDS) == 0

        (folder / "configuration" / "adapter.toml").write_text(
            f"""
listen = "127.0.0.1:0"
resource = "{RESOURCE}"
authorization_servers = ["{ISSUER}"]
[authsvc]
target = "{address}"
"""
        )
        configuration = ("--config", "/etc/authsvc/adapter.toml")
        with in_container(image, folder, "mcp_adapter", "serve", *configuration) as adapter:
            url = f"http://{adapter.wait_for('listening on', TIMEOUT_SECONDS)['address']}"
            ready = httpx2.get(f"{url}/readyz", timeout=TIMEOUT_SECONDS)
            assert ready.status_code == 200
            adapter.kill(signal.SIGTERM)
            assert adapter.wait(TIMEOUT_SECONDS) == 0
        authsvc.kill(signal.SIGTERM)
        assert authsvc.wait(TIMEOUT_SECONDS) == 0
    assert (folder / "state" / "authsvc.db").exists()


def test_nothing_is_in_it_that_installs_or_compiles(image: Path) -> None:
    names = {path.name for path in image.glob("**/bin/*")}
    assert not [name for name in names if re.fullmatch(r"(pip|gcc|cc|c\+\+|g\+\+|uv)[\d.-]*", name)]
    packages = {path.name.partition("-")[0] for path in image.glob("**/*.dist-info")}
    assert "authsvc" in packages
    assert not packages & {"pip", "setuptools", "wheel", "pytest", "grpcio_tools", "uv"}
    assert not list(image.glob("**/ensurepip"))
    assert not (image / "build").exists()


@pytest.mark.parametrize("name", ["authsvc", "asyncio"])
def test_no_start_compiles_anything(image: Path, name: str) -> None:
    """Nothing is written at run time, so that each start would do so again."""
    sources = [path for path in image.glob(f"**/python3*/**/{name}/*.py") if path.stat().st_size]
    assert sources
    for source in sources:
        assert list((source.parent / "__pycache__").glob(f"{source.stem}.cpython-*.pyc"))


def test_its_own_layer_is_not_large(image: Path) -> None:
    files = [path for path in (image / "opt" / "authsvc").rglob("*") if path.is_file()]
    assert 0 < sum(path.lstat().st_size for path in files) <= OWN_LAYER_BYTES


def test_it_has_this_version(image: Path) -> None:
    (found,) = image.glob("opt/authsvc/lib/python3*/site-packages/authsvc/__init__.py")
    assert found.read_text() == (ROOT / "authsvc" / "__init__.py").read_text()
