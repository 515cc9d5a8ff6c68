"""What each extra of the wheel brings is enough for what it is for, and is no more than it says.

The wheel is built and unpacked beside nothing but its declared requirements, as this environment
has them: an installation into an empty one, without a network.
"""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mcp_adapter
from authsvc.cli import COMMANDS as AUTHSVC
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


CLIENT = {"grpcio", "protobuf", "googleapis-common-protos", "hpack", "typing-extensions"}

PROTECTED = """
from mcp_adapter import SessionGate, caller, current_caller, with_origin_checks
from mcp_adapter.testing import FakeResolver, as_caller
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
        ("server", "import authsvc.cli, authsvc.server.running, authsvc.server.config"),
        ("adapter", "import mcp_adapter.server.cli, mcp_adapter.server.running"),
        ("aws", PROTECTED + "from mcp_adapter.aws import boto3_session_for, session_for"),
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


USER = """
from mcp_adapter import Requirement, SessionGate, caller, current_caller, with_origin_checks
from mcp_adapter.testing import FakeResolver, as_caller
from authsvc.client import AuthClient, ClientTls
from starlette.requests import Request
from starlette.types import ASGIApp

def subject(request: Request) -> str:
    return caller(request).subject

def behind(app: ASGIApp) -> ASGIApp:
    gate = SessionGate(app, resolver=FakeResolver(), resource="https://mcp.example/mcp")
    return with_origin_checks(
        gate, resource="https://mcp.example/mcp", allowed_hosts=(), allowed_origins=()
    )

session = current_caller(as_caller("alice")).session
reveal_type(subject(as_caller("alice")))
reveal_type(AuthClient("127.0.0.1:50051"))
reveal_type(SessionGate)
"""


def test_a_user_sees_the_types_of_the_public_names(wheel: Path, tmp_path: Path) -> None:
    """``py.typed`` is in the wheel, and names that are imported at their first use have types."""
    venv.create(tmp_path / "venv", with_pip=False)
    (site_packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    install(closure(wheel, "middleware"), site_packages)
    shutil.copytree(wheel, site_packages, dirs_exist_ok=True)
    (tmp_path / "user.py").write_text(USER)

    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")),
            *("--python-executable", str(tmp_path / "venv/bin/python"), "user.py"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=TIMEOUT_SECONDS,
    )

    revealed = [line.partition("Revealed type is ")[2] for line in done.stdout.splitlines()[:3]]
    assert done.returncode == 0, done.stdout
    assert revealed[:2] == ['"str"', '"authsvc.client.client.AuthClient"']
    assert revealed[2].endswith('-> mcp_adapter.gate.middleware.SessionGate"')


# What is said where an extra is missing.


def program(
    name: str, *arguments: str, paths: tuple[Path, ...]
) -> subprocess.CompletedProcess[str]:
    """Run one of the programs as its script does, where nothing but ``paths`` is installed."""
    (metadata,) = paths[0].glob("*.dist-info")
    scripts = configparser.ConfigParser()
    scripts.read(metadata / "entry_points.txt")
    module, _, function = scripts["console_scripts"][name].partition(":")
    script = (
        f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}; "
        f"sys.argv = {[name, *arguments]!r}; from {module} import {function} as run; run()"
    )
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )


def named(it: str | tuple[str, ...]) -> str:
    """The id of a parameter."""
    return it if isinstance(it, str) else "-".join(it)


COMMANDS = [
    *((("authsvc", name), "console" if name == "console" else "server") for name in AUTHSVC),
    *((("mcp-adapter", name), "adapter") for name in ("serve", "check-config", "--help")),
    (("authsvc", "--help"), "server"),
    (("authsvc", "completion", "bash"), "server"),
]


@pytest.mark.parametrize(("command", "extra"), COMMANDS, ids=named)
def test_a_command_whose_extra_is_missing_says_so_in_a_line(
    wheel: Path, tmp_path: Path, command: tuple[str, ...], extra: str
) -> None:
    install(closure(wheel, ""), tmp_path)

    done = program(*command, paths=(wheel, tmp_path))

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(command[0])
    assert f'needs the extra "{extra}" (' in line
    assert "pip install" not in line  # the name may be somebody else's on a package index


@pytest.mark.parametrize("extra", ["server", "adapter", "console", "middleware"])
@pytest.mark.parametrize(("command", "needed"), COMMANDS[-3:], ids=named)
def test_another_extra_is_not_the_one(
    wheel: Path, tmp_path: Path, extra: str, command: tuple[str, ...], needed: str
) -> None:
    """What an extra does not bring is a line as well, or it works; never a traceback."""
    install(closure(wheel, extra), tmp_path)

    done = program(*command, paths=(wheel, tmp_path))

    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or f'the extra "{needed}"' in done.stderr


def test_the_console_starts_with_its_extra_alone(wheel: Path, tmp_path: Path) -> None:
    install(closure(wheel, "console"), tmp_path)

    done = program("authsvc", "console", paths=(wheel, tmp_path))

    assert done.returncode == 2
    assert "needs the extra" not in done.stderr
    assert "Traceback" not in done.stderr


def test_the_console_is_named_where_the_server_is_installed(wheel: Path, tmp_path: Path) -> None:
    install(closure(wheel, "server"), tmp_path)

    done = program("authsvc", "console", paths=(wheel, tmp_path))

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert 'authsvc console needs the extra "console" (' in done.stderr


@pytest.mark.parametrize(
    ("statement", "module", "extra"),
    [
        *(
            (f"from mcp_adapter import {name}", "mcp_adapter", "middleware")
            for name in mcp_adapter.__all__
        ),
        ("from mcp_adapter.testing import FakeResolver", "mcp_adapter.testing", "middleware"),
        ("import mcp_adapter.fastmcp", "mcp_adapter.fastmcp", "middleware"),
        ("import mcp_adapter.aws", "mcp_adapter.aws", "aws"),
        ("import mcp_adapter.tools", "mcp_adapter.tools", "adapter"),
        ("import authsvc.server.running", "authsvc.server.running", "server"),
    ],
)
def test_an_import_names_what_needs_which_extra(
    wheel: Path, tmp_path: Path, statement: str, module: str, extra: str
) -> None:
    install(closure(wheel, ""), tmp_path)

    run(
        f"""
try:
    {statement}
except ImportError as error:
    assert str(error).startswith('{module} needs the extra "{extra}" ('), error
    assert error.name == {module!r}
    assert error.__cause__ is None and error.__context__ is None
else:
    raise AssertionError("imported")
""",
        wheel,
        tmp_path,
    )


@pytest.mark.parametrize("installed", ["", "server", "middleware", "adapter", "console"])
@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("authsvc", ["serve"], "server"),
        ("authsvc.console", ["serve"], "console"),
        ("mcp_adapter", ["serve"], "adapter"),
        ("mcp_adapter.tools", [], "adapter"),
    ],
)
def test_a_module_that_is_run_names_its_extra(
    wheel: Path, tmp_path: Path, module: str, arguments: list[str], extra: str, installed: str
) -> None:
    """``python -m``: a line as well, whatever else is installed; never a traceback."""
    install(closure(wheel, installed), tmp_path)
    (tmp_path / "empty").mkdir()

    done = subprocess.run(
        [sys.executable, "-S", "-m", module, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path / "empty",
        env={"PYTHONPATH": f"{wheel}:{tmp_path}"},
        timeout=TIMEOUT_SECONDS,
    )

    assert "Traceback" not in done.stderr
    if installed == extra:
        assert "needs the extra" not in done.stderr
    else:
        assert done.returncode != 0
        (line,) = done.stderr.splitlines()
        assert module in line.replace("mcp-adapter", "mcp_adapter")
        assert f'needs the extra "{extra}" (' in line
