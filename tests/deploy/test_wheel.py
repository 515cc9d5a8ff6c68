"""What each extra of the wheel brings is enough for what it is for, and is no more than it says.

The wheel is built and unpacked beside nothing but its declared requirements, as this environment
has them: an installation into an empty one, without a network.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.bounds import TIMEOUT_SECONDS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def required(of: Distribution, extras: frozenset[str]) -> set[tuple[str, frozenset[str]]]:
    """What a distribution needs directly, with the extras that it asks of each."""
    found: set[tuple[str, frozenset[str]]] = set()
    for line in of.requires or ():
        need = Requirement(line)
        if any(
            need.marker is None or need.marker.evaluate({"extra": extra}) for extra in extras | {""}
        ):
            found.add((canonicalize_name(need.name), frozenset(need.extras)))
    return found


def closure(wheel: Path, extra: str) -> set[str]:
    """The names of all that is installed with the wheel."""
    (metadata,) = wheel.glob("*.dist-info")
    waiting = required(PathDistribution(metadata), frozenset({extra}))
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = item = waiting.pop()
        seen.add(item)
        waiting |= required(distribution(name), extras) - seen
    return {name for name, _ in seen}


def install(names: set[str], folder: Path) -> None:
    """Link every file of the named distributions into ``folder``."""
    for name in names:
        for file in distribution(name).files or ():
            source = Path(str(file.locate()))
            if ".." not in file.parts and source.suffix != ".pyc":
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).symlink_to(source)


def run(script: str, *paths: Path) -> None:
    """Run a script that finds the standard library, ``paths`` and nothing else."""
    found = "import sys; sys.path[:0] = " + repr([str(path) for path in paths])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", f"{found}\n{script}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stderr


CLIENT = {"grpcio", "protobuf", "googleapis-common-protos", "typing-extensions"}

PROTECTED = """
from mcp_adapter import identity, origins
from mcp_adapter.middleware import SessionGate
async def app(scope, receive, send): ...
SessionGate(app, resolver="127.0.0.1:50051", resource="https://mcp.example/mcp",
            authorization_servers=["https://idp.example"])
"""

CLIENTS = """
from authsvc.client import AuthClient, BlockingAuthClient, ClientTls
with BlockingAuthClient("127.0.0.1:50051"):
    pass
"""


@pytest.mark.parametrize(
    ("extra", "script"),
    [
        ("", CLIENTS),
        ("middleware", CLIENTS + PROTECTED),
        ("server", "import authsvc.cli, authsvc.server, authsvc.config"),
        ("adapter", "import mcp_adapter.cli, mcp_adapter.server"),
    ],
)
def test_an_extra_is_enough(wheel: Path, tmp_path: Path, extra: str, script: str) -> None:
    install(closure(wheel, extra), tmp_path)

    run(script, wheel, tmp_path)


def test_a_client_installs_grpc_and_protobuf_alone(wheel: Path) -> None:
    assert closure(wheel, "") == CLIENT


def test_the_middleware_brings_no_server(wheel: Path) -> None:
    brought = closure(wheel, "middleware")

    assert {"starlette", "mcp-types"} <= brought
    assert not brought & {"mcp", "uvicorn", "pydantic-settings", "aiobotocore", "click"}
