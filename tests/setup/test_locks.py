"""Nothing that this project installs is resolved: what a lock pins is what there is.

The index here has, besides every locked release, a newer one that nobody could install, and every
package is also required with an extra: that is where older pips look at the newest release.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.utils import canonicalize_name

from scripts import install, npm
from tests.support.index import Index

ROOT = Path(__file__).parents[2]
OLDEST_PIP = Path(__file__).with_name("oldest-pip.lock")
TEXT = {".py", ".sh", ".toml", ".yaml", ".yml", ".mk", ".cfg", ""}


def tracked(pattern: str = "") -> list[Path]:
    """The files of the project, those that are not committed yet among them."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", pattern or "."]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    files = [Path(line) for line in sorted(set(done.stdout.splitlines()))]
    return [file for file in files if (ROOT / file).is_file()]


LOCKS = [path for path in tracked("*.lock") if ROOT / path != OLDEST_PIP]


@dataclass(frozen=True, slots=True)
class Pin:
    """One entry of a lock."""

    name: str
    version: str
    marker: str

    def applies(self) -> bool:
        """Whether it is installed on this interpreter and platform."""
        return not self.marker or Marker(self.marker).evaluate()


def pins(lock: Path) -> list[Pin]:
    """The entries of a lock."""
    line = re.compile(r"^([\w.-]+)==([^\s;\\]+)(?: *; *([^\\\n]+?))? *\\?$", re.MULTILINE)
    text = (ROOT / lock).read_text(encoding="utf-8")
    return [Pin(*(part or "" for part in found)) for found in line.findall(text)]


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The oldest pip that is supported, unpacked."""
    folder = tmp_path_factory.mktemp("pip")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run(
        [*command, "--dest", str(folder), "--requirement", str(OLDEST_PIP)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.fixture
def python(tmp_path: Path, pip: Path) -> str:
    """The interpreter of an environment that holds that pip and nothing else."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    interpreter = venv / "bin" / "python"
    packages = install.packages_of(str(interpreter))
    for item in pip.iterdir():
        (packages / item.name).symlink_to(item)
    return str(interpreter)


def dummies(lock: Path, folder: Path) -> tuple[Path, str]:
    """The same lock for dummy packages, and their index.

    Each package requires the next one with an extra, and has a newer release that cannot be had.
    """
    index = Index(folder / "index")
    entries = pins(lock)
    applying = [pin for pin in entries if pin.applies()]
    following = dict(zip(applying, [*applying[1:], *applying[:1]], strict=True))
    lines = []
    for pin in entries:
        after = following.get(pin)
        requires = [f"{after.name}[all]>={after.version}"] if after else []
        digest = index.add(pin.name, pin.version, requires=requires)
        index.add(pin.name, "9999", requires=["nobody-has-this==1"])
        marker = f" ; {pin.marker}" if pin.marker else ""
        lines.append(f"{pin.name}=={pin.version}{marker} --hash=sha256:{digest}\n")
    copy = folder / "dummies.lock"
    copy.write_text("".join(lines), encoding="utf-8")
    return copy, index.url


def quiet(url: str) -> dict[str, str]:
    """An environment in which pip knows one index alone."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    return {**own, "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": url, "PIP_NO_CACHE_DIR": "1"}


def installed(python: str) -> dict[str, str]:
    """What an environment has besides pip."""
    found = distributions(path=[str(install.packages_of(python))])
    everything = {canonicalize_name(it.metadata["Name"]): it.version for it in found}
    return {name: version for name, version in everything.items() if name != "pip"}


def test_every_lock_is_found() -> None:
    assert Path("requirements.lock") in LOCKS
    assert len(LOCKS) >= 6
    assert all(pins(lock) for lock in LOCKS)


@pytest.mark.parametrize("lock", LOCKS, ids=str)
def test_a_lock_installs_beside_newer_and_broken_releases(
    lock: Path, python: str, tmp_path: Path
) -> None:
    copy, url = dummies(lock, tmp_path)

    command = [python, str(ROOT / "scripts" / "install.py"), str(copy)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=quiet(url), timeout=300
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    wanted = {canonicalize_name(pin.name): pin.version for pin in pins(lock) if pin.applies()}
    assert installed(python) == wanted


@pytest.mark.parametrize("lock", LOCKS, ids=str)
def test_a_resolver_would_fail_on_the_same_index(lock: Path, python: str, tmp_path: Path) -> None:
    """So that the test above shows something: without ``--no-deps`` it fails as it did."""
    copy, url = dummies(lock, tmp_path)
    command = [word for word in install.command(python, copy) if word != "--no-deps"]

    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=quiet(url), timeout=300
    )

    assert "all requirements must have their versions pinned with ==" in done.stderr


@pytest.mark.parametrize("lock", LOCKS, ids=str)
def test_locks_that_share_an_environment_agree(lock: Path) -> None:
    """One is installed on top of the other, without a resolver that would see a conflict."""
    base = {(pin.name, pin.version) for pin in pins(Path("requirements.lock"))}
    names = {name for name, _ in base}
    assert all((pin.name, pin.version) in base for pin in pins(lock) if pin.name in names)


# The commands.


def commands() -> Iterator[tuple[Path, str]]:
    """Every line that calls pip or npm, with the lines that continue it."""
    for file in tracked():
        if file.suffix in TEXT and "tests" not in file.parts and "LICENSE" not in file.parts:
            text = (ROOT / file).read_text("utf-8", "replace").replace("\\\n", " ")
            for line in text.splitlines():
                if not line.lstrip().startswith("#"):
                    yield file, line


_PIP = re.compile(r"""\bpip['", ]+(?:--python \S+ )?(install|wheel|download|sync)\b""")
_NPM = re.compile(r"""\bnpm['", ]+(install|i|add|update|exec)\b|\bnpx\b""")


def test_no_command_resolves() -> None:
    found = [(file, line) for file, line in commands() if _PIP.search(line)]

    assert any(file == Path("deploy/Containerfile") for file, _ in found), "nothing was looked at"
    resolving = [
        f"{file}: {line.strip()}"
        for file, line in found
        if "--no-deps" not in line
        and "*into" not in line
        and not line.rstrip().endswith(('"install",', "*editable],"))
    ]
    assert not resolving


@pytest.mark.parametrize("target", [None, "/opt/authsvc/bin/python"])
def test_the_one_command_resolves_nothing(target: str | None) -> None:
    command = install.command("python", Path("a.lock"), target)

    assert command[command.index("install") :][:3] == ["install", "--no-deps", "--require-hashes"]
    # An sdist's build requirements would be resolved.
    assert command[command.index("--only-binary") + 1] == ":all:"


@pytest.mark.parametrize("lock", LOCKS, ids=str)
def test_each_lock_is_installed_by_that_command(lock: Path) -> None:
    named = lock.name if lock.parts[0] == "deploy" else str(lock)
    by = [
        file
        for file, line in commands()
        if named in line and re.search(r"scripts\.install|install\.py|LOCK = ", line)
    ]
    assert by


# npm.


NPM_LOCKS = [path.parent for path in tracked("*package-lock.json")]


def test_npm_resolves_nothing() -> None:
    assert "ci" in npm.command()
    found = [f"{file}: {line}" for file, line in commands() if _NPM.search(line)]
    # The demo prints how a user could start the Inspector.
    assert not [line for line in found if "npx -y @modelcontextprotocol/inspector" not in line]


@pytest.mark.parametrize("folder", NPM_LOCKS, ids=str)
def test_npm_locks_are_complete_and_name_no_registry(folder: Path) -> None:
    lock = json.loads((ROOT / folder / "package-lock.json").read_text(encoding="utf-8"))
    entries = {path: entry for path, entry in lock["packages"].items() if path}

    assert entries
    assert all("integrity" in entry and "resolved" not in entry for entry in entries.values())
    settings = (ROOT / folder / ".npmrc").read_text(encoding="utf-8").splitlines()
    assert "omit-lockfile-registry-resolved=true" in settings
