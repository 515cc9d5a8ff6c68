"""Set-up reports, is bounded, continues after an interruption, and never takes half for whole."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.install import packages_of
from tests.support.index import Index

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 300

BACKEND = """
import os, pathlib, sys
sys.path.insert(0, {root!r})
from tests.support.index import wheel

def build_editable(folder, config_settings=None, metadata_directory=None):
    if os.environ.get("BREAK"):
        raise SystemExit("the backend broke")
    pathlib.Path(folder, "authsvc-1-py3-none-any.whl").write_bytes(wheel("authsvc", "1", [], []))
    return "authsvc-1-py3-none-any.whl"
"""

HEEDS_INTERRUPTS = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
os.execvp(sys.argv[1], sys.argv[1:])
"""

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "authsvc"
version = "1"
"""


class Project:
    """A small project with our scripts, whose lock names dummies."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.venv = folder, folder / ".venv"
        self.index = Index(folder / "index")
        self.url = self.index.url
        shutil.copytree(ROOT / "scripts", folder / "scripts")
        (folder / "backend.py").write_text(BACKEND.format(root=str(ROOT)))
        (folder / "pyproject.toml").write_text(PYPROJECT)
        self.lock(alpha="1", beta="1")

    def lock(
        self,
        requires: tuple[str, ...] = (),
        file: str = "requirements.lock",
        **versions: str,
    ) -> None:
        """Pin these, of which each holds a module of its name."""
        lines = []
        for name, version in versions.items():
            digest = self.index.add(name, version, requires=requires, files=[f"{name}.py"])
            lines.append(f"{name}=={version} --hash=sha256:{digest}\n")
        path = self.folder / file
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(lines))

    def environment(self, **variables: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
        kept.pop("PYTHON", None)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        own = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": self.url, "PIP_NO_CACHE_DIR": "1"}
        return {**kept, "PATH": path, **own, **variables}

    @property
    def command(self) -> list[str]:
        return ["sh", str(self.folder / "scripts" / "setup.sh"), str(self.venv)]

    def set_up(self, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command,
            check=False,
            capture_output=True,
            text=True,
            env=self.environment(**variables),
            timeout=LIMIT_SECONDS,
        )

    def succeed(self, **variables: str) -> str:
        done = self.set_up(**variables)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not done.stderr, "set-up warns about nothing"
        return done.stdout

    @property
    def packages(self) -> Path:
        return packages_of(str(self.venv / "bin" / "python"))

    def install(self, lock: str) -> None:
        """As the targets do that need more than ``requirements.lock``."""
        done = subprocess.run(
            [str(self.venv / "bin" / "python"), "-m", "scripts.install", lock],
            cwd=self.folder,
            check=False,
            capture_output=True,
            text=True,
            env=self.environment(),
            timeout=LIMIT_SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def kill_removal(self, name: str) -> None:
        """Leave what pip leaves that was killed while it replaced or removed a package."""
        (metadata,) = self.packages.glob(f"{name}-*.dist-info")
        metadata.rename(metadata.with_name(f"~{metadata.name[1:]}"))

    def has(self, name: str, version: str) -> bool:
        found = list(self.packages.glob(f"{name}-*.dist-info"))
        module = (self.packages / f"{name}.py").is_file()
        return module and [it.name for it in found] == [f"{name}-{version}.dist-info"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One environment for the module: making one takes seconds."""
    project = Project(tmp_path_factory.mktemp("made") / "project")
    project.first = project.succeed()  # type: ignore[attr-defined] # for the first test alone
    return project


@pytest.fixture
def project(made: Project) -> Iterator[Project]:
    """That one, as the test before has left it, with an index that can be reached."""
    yield made
    made.url = made.index.url


def not_whole(project: Project) -> bool:
    return not (project.venv / ".ready").exists()


def test_each_step_is_reported(made: Project) -> None:
    steps = [line.split()[1] for line in str(vars(made)["first"]).splitlines()]

    assert steps == ["1/4", "2/4", "3/4", "4/4", "done"]


def test_a_whole_environment_is_left_alone(project: Project) -> None:
    project.succeed()

    assert project.succeed() == ""
    assert project.succeed(PYTHON=sys.executable) == ""


def test_a_terminal_sees_how_far_it_is(project: Project) -> None:
    project.lock(alpha="2", beta="2")
    terminal, its = pty.openpty()
    with subprocess.Popen(
        project.command, stdout=its, stderr=subprocess.PIPE, env=project.environment()
    ) as process:
        os.close(its)
        shown = b""
        while chunk := _read(terminal):
            shown += chunk
        assert process.wait(LIMIT_SECONDS) == 0
    os.close(terminal)

    assert b"\r\x1b[Ksetup: 2/4 installing the locked packages: 1 of 2 found" in shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side is closed
        return b""


def test_warnings_of_pip_are_in_its_log_alone(project: Project) -> None:
    project.lock(alpha="3", beta="1")
    missing = (project.folder / "no-such-index").as_uri()

    project.succeed(PIP_EXTRA_INDEX_URL=missing, PIP_FIND_LINKS=str(project.folder / "nowhere"))

    assert "WARNING" in (project.venv / "setup.log").read_text()


def test_an_unreachable_index_is_one_line_and_the_next_run_continues(project: Project) -> None:
    project.lock(alpha="4", beta="1")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    project.url = f"http://127.0.0.1:{port}/simple"

    done = project.set_up()

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "a package index is unreachable" in line
    assert "run this again" in line
    assert not_whole(project)
    project.url = project.index.url
    assert "completing" in project.succeed()
    assert project.has("alpha", "4")


def test_what_is_wrong_is_shown(project: Project) -> None:
    project.lock(alpha="5", beta="1")
    lock = project.folder / "requirements.lock"
    lock.write_text(f"alpha==5 --hash=sha256:{'0' * 64}\n")

    done = project.set_up()

    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not_whole(project)


def test_a_lock_that_is_not_complete_fails(project: Project) -> None:
    project.lock(requires=("gamma>=1",), alpha="6", beta="1")

    done = project.set_up()

    assert done.returncode == 1
    assert "requires gamma" in done.stderr + (project.venv / "setup.log").read_text()
    assert not_whole(project)


def test_a_project_that_does_not_build_fails_and_is_made_later(project: Project) -> None:
    project.lock(alpha="7", beta="1")

    done = project.set_up(BREAK="1")

    assert done.returncode == 1
    assert not_whole(project)
    assert "completing" in project.succeed()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_environment_is_not_whole(project: Project, how: signal.Signals) -> None:
    version = f"8.{how:d}"  # one that pip has to ask for
    project.lock(alpha=version, beta="1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(LIMIT_SECONDS)
        project.url = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        process = subprocess.Popen(
            [sys.executable, "-c", HEEDS_INTERRUPTS, *project.command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=project.environment(),
            start_new_session=True,
        )
        connection, _ = silent.accept()  # pip has asked, and gets no answer
        os.killpg(process.pid, how)
        _, printed = process.communicate(timeout=LIMIT_SECONDS)
        connection.close()

    assert process.returncode != 0
    assert "Traceback" not in printed
    assert not_whole(project)
    project.url = project.index.url
    assert "completing" in project.succeed()
    assert project.has("alpha", version)


@pytest.mark.parametrize("never_written", ["INSTALLER", "RECORD"])
def test_half_a_package_is_installed_again(project: Project, never_written: str) -> None:
    """pip writes these last, and would otherwise take the package for installed."""
    (project.venv / ".ready").unlink(missing_ok=True)
    (info,) = project.packages.glob("alpha-*.dist-info")
    (info / never_written).unlink()
    (project.packages / "alpha.py").unlink()

    project.succeed()

    assert (project.packages / "alpha.py").is_file()


def test_a_package_whose_record_is_the_wheels_is_installed_again(project: Project) -> None:
    """pip was killed just before it wrote its own: without it, it would remove no scripts."""
    (project.venv / ".ready").unlink(missing_ok=True)
    (metadata,) = project.packages.glob("alpha-*.dist-info")
    record = (metadata / "RECORD").read_text()
    (metadata / "RECORD").write_text(
        "".join(line for line in record.splitlines(True) if "INSTALLER" not in line)
    )

    project.succeed()

    assert (metadata / "RECORD").read_text() == record


def test_a_package_that_was_half_removed_is_installed_again(project: Project) -> None:
    """pip removes scripts, and folders that packages share, before the metadata."""
    (project.venv / ".ready").unlink(missing_ok=True)
    (project.packages / "alpha.py").unlink()

    project.succeed()

    assert (project.packages / "alpha.py").is_file()


def test_another_lock_is_another_environment(project: Project) -> None:
    project.lock(alpha="9")

    assert "completing" in project.succeed()

    assert project.has("alpha", "9")
    assert not list(project.packages.glob("beta*")), "what is not locked any more is gone"


def test_an_environment_in_which_a_replacement_was_killed_is_made_anew(project: Project) -> None:
    """No metadata names the files of the old release that are left."""
    project.lock(alpha="10", beta="1")
    project.succeed()
    project.kill_removal("alpha")
    project.lock(beta="1")

    assert "making" in project.succeed()

    assert not list(project.packages.glob("~*"))
    assert not (project.packages / "alpha.py").exists()


def test_another_lock_is_installed_after_a_replacement_was_killed(project: Project) -> None:
    project.lock(alpha="11", beta="1")
    project.lock(file="bench/requirements.lock", gamma="1")
    project.succeed()
    project.install("bench/requirements.lock")
    project.kill_removal("gamma")
    project.lock(file="bench/requirements.lock", gamma="2")

    project.install("bench/requirements.lock")

    assert project.has("gamma", "2")
    assert not list(project.packages.glob("~*"))


def test_what_another_lock_names_again_is_installed_again(project: Project) -> None:
    project.lock(file="bench/requirements.lock", gamma="3")
    project.succeed()
    project.install("bench/requirements.lock")
    project.lock(file="bench/requirements.lock")
    project.lock(alpha="12", beta="1")
    project.succeed()
    assert not project.has("gamma", "3")
    project.lock(file="bench/requirements.lock", gamma="3")

    project.install("bench/requirements.lock")

    assert project.has("gamma", "3")


def without_pip(venv: Path, packages: Path) -> None:
    for part in packages.glob("pip*"):
        shutil.rmtree(part)


def with_half_a_pip(venv: Path, packages: Path) -> None:
    (packages / "pip" / "__main__.py").unlink()


def not_made_to_its_end(venv: Path, packages: Path) -> None:
    (venv / "setup.log").rename(venv / ".authsvc-setup")


@pytest.mark.parametrize("leave", [without_pip, with_half_a_pip, not_made_to_its_end])
def test_half_an_environment_is_made_anew(
    project: Project, leave: Callable[[Path, Path], None]
) -> None:
    (project.venv / ".ready").unlink(missing_ok=True)
    leave(project.venv, project.packages)

    assert "making" in project.succeed()


def test_an_environment_whose_interpreter_vanished_is_made_anew(project: Project) -> None:
    python = project.venv / "bin" / "python"
    python.unlink()
    python.symlink_to(project.folder / "nowhere" / "python")

    assert "making" in project.succeed()


def test_an_environment_that_was_moved_is_made_anew(project: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "other")
    shutil.copytree(project.venv, other.venv, symlinks=True)

    assert "making" in other.succeed()
    assert other.has("alpha", "1")


def of_work(venv: Path) -> Path:
    (venv / "bin").mkdir(parents=True)
    thesis = venv / "thesis.txt"
    thesis.write_text("precious")
    return thesis


def of_programs(venv: Path) -> Path:
    """As ``~/.local`` is: the folders that an environment has, without its configuration."""
    (venv / "bin").mkdir(parents=True)
    (venv / "lib").mkdir()
    program = venv / "bin" / "program"
    program.write_text("precious")
    return program


def of_another_environment(venv: Path) -> Path:
    venv.mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\n")
    return of_work(venv / "work").rename(venv / "thesis.txt")


def of_another_projects_environment(venv: Path) -> Path:
    """As ``python -m venv`` and ``pip install`` have made it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (packages,) = (venv / "lib").glob("python*/site-packages")
    module = packages / "theirs.py"
    module.write_text("precious")
    return module


def of_a_log_and_a_marker(venv: Path) -> Path:
    """Names that are ours are not enough."""
    thesis = of_work(venv)
    (venv / "setup.log").write_text("another's")
    (venv / ".ready").write_text("another's")
    return thesis


def of_a_link(venv: Path) -> Path:
    thesis = of_work(venv.with_name("elsewhere"))
    venv.symlink_to(thesis.parent)
    return venv / "thesis.txt"


def of_a_link_to_nothing(venv: Path) -> Path:
    venv.symlink_to("nowhere")
    return venv


def of_a_file(venv: Path) -> Path:
    venv.write_text("precious")
    return venv


@pytest.mark.parametrize(
    "fill",
    [
        of_work,
        of_programs,
        of_another_environment,
        of_another_projects_environment,
        of_a_log_and_a_marker,
        of_a_link,
        of_a_link_to_nothing,
        of_a_file,
    ],
)
def test_a_folder_that_is_not_ours_stays_as_it_is(
    tmp_path: Path, fill: Callable[[Path], Path]
) -> None:
    project = Project(tmp_path / "project")
    kept = fill(project.venv)
    before = contents(project.venv)

    done = project.set_up()

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"{project.venv} was not made by this set-up; give another folder" in line
    assert os.path.lexists(kept)
    assert contents(project.venv) == before


def contents(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*")) if folder.is_dir() else []


def never_filled(venv: Path) -> None:
    shutil.rmtree(venv)
    venv.mkdir()


def with_empty_folders_alone(venv: Path) -> None:
    never_filled(venv)
    (venv / "lib").mkdir()
    (venv / "lib64").symlink_to("lib")


def half_emptied(venv: Path) -> None:
    (venv / "setup.log").rename(venv / ".authsvc-setup")
    (venv / "pyvenv.cfg").unlink()
    shutil.rmtree(venv / "lib")


def made_by_an_earlier_set_up(venv: Path) -> None:
    (venv / ".ready").write_text("an older one")
    (venv / "setup.log").unlink()
    (venv / "notes.txt").write_text("of the environment")


@pytest.mark.parametrize(
    "leave", [never_filled, with_empty_folders_alone, half_emptied, made_by_an_earlier_set_up]
)
def test_what_set_up_made_or_began_to_make_is_made_anew(
    project: Project, leave: Callable[[Path], None]
) -> None:
    (project.venv / ".ready").unlink(missing_ok=True)
    leave(project.venv)

    assert "making" in project.succeed()
    assert not (project.venv / "notes.txt").exists()


def test_too_old_an_interpreter_is_one_line(tmp_path: Path) -> None:
    project = Project(tmp_path / "old")

    done = project.set_up(PYTHON="/bin/false")

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "Python 3.11 or newer is needed" in line


def test_cleaning_removes_the_markers_first() -> None:
    """What remains when it is interrupted is not taken for whole."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "--dry-run", "--no-print-directory", "clean"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, env=ours)

    first = next(line for line in done.stdout.splitlines() if not line.startswith("#"))
    assert first.startswith("rm -f ")
    assert "rm -rf" not in first
    for marker in (".venv/.ready", ".venv-3.*/.ready"):
        assert marker in first
    for path in ROOT.rglob("package-lock.json"):
        if "node_modules" not in path.parts:
            folder = path.parent.relative_to(ROOT)
            assert f"{folder}/node_modules/.installed" in first
