"""``python -m scripts.setup FOLDER``: make the virtual environment, or complete it.

The marker is written last. It is a digest of the lock, the project's metadata, the interpreter and
the folder: an environment that was interrupted, changed, moved or copied is set up again.
``--check`` exits with 0 if nothing has to be done; the environment's own interpreter has to run it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from scripts.install import (
    LOG,
    MARKERS,
    InstallError,
    Progress,
    check,
    explained,
    fingerprint,
    half_removed,
    install,
    is_complete,
    packages_of,
    pins,
    run,
)

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
MARKER = ".ready"
OURS = {"authsvc", "pip", "setuptools"}
"""Packages that are installed without a lock."""

CONFIGURATION = "pyvenv.cfg"
MAKING = ".authsvc-setup"
"""In an environment while set-up makes or removes it: until then nothing else distinguishes it from
one that was made by ``python -m venv`` for another purpose."""


def state() -> str:
    """The content that the marker of this environment should have."""
    return fingerprint(
        LOCK.read_bytes(),
        (ROOT / "pyproject.toml").read_bytes(),
        sys.version.encode(),
        os.fsencode(Path(sys.prefix).resolve()),
        os.fsencode(ROOT),
    )


def is_complete_environment(venv: Path, base: str) -> bool:
    """Whether the environment that runs this is ``venv``, of the interpreter ``base``, and done.

    Args:
        venv: its folder.
        base: the required ``sys.base_prefix``; empty for any.
    """
    marker = venv / MARKER
    return (
        Path(sys.prefix).resolve() == venv.resolve()
        and (not base or Path(sys.base_prefix).resolve() == Path(base).resolve())
        and made_at(venv) == venv.resolve()
        and marker.is_file()
        and marker.read_text(encoding="utf-8") == state()
    )


def made_at(venv: Path) -> Path | None:
    """The folder that an environment was made in: its scripts name it, wherever it is now."""
    try:
        lines = (venv / CONFIGURATION).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    for line in lines:
        key, _, value = line.partition(" = ")
        if key == "command":
            return Path(value.split(" -m venv ", 1)[-1].removeprefix("--clear ")).resolve()
    return None


def can_be_completed(venv: Path) -> bool:
    """Whether it is an environment of the interpreter that runs this, made here, with a pip.

    One in which pip was killed while it replaced a package holds files that no metadata names.
    """
    python = venv / "bin" / "python"
    ask = "import sys; print(sys.version, sys.base_prefix)"
    try:
        done = subprocess.run(  # noqa: S603 - our own
            [str(python), "-c", ask], check=True, capture_output=True, text=True
        )
        packages = packages_of(str(python))
    except (OSError, subprocess.CalledProcessError, InstallError):
        return False
    pips = list(packages.glob("pip-*.dist-info"))
    return (
        done.stdout.strip() == f"{sys.version} {sys.base_prefix}"
        and made_at(venv) == venv.resolve()
        and (venv / LOG).is_file()
        and len(pips) == 1
        and is_complete(pips[0])
        and not half_removed(packages)
    )


def may_be_removed(venv: Path) -> bool:
    """Whether a folder is an environment that set-up made or began to make, or holds no file."""
    if venv.is_symlink() or not venv.is_dir():
        return False
    names = {path.name for path in venv.iterdir()}
    if MAKING in names or (CONFIGURATION in names and names & {LOG, MARKER, MARKERS}):
        return True
    return not any(files for _, _, files in os.walk(venv))


def begin(venv: Path) -> None:
    """Mark the folder as an environment that set-up makes.

    Raises:
        InstallError: it cannot be written to.
    """
    try:
        venv.mkdir(parents=True, exist_ok=True)
        (venv / MAKING).touch()
    except OSError as error:
        raise InstallError(f"no environment: {error}") from None


def empty(venv: Path) -> None:
    """Remove the content of an environment, except the mark that set-up is making it."""
    for path in venv.iterdir():
        if path.name == MAKING:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def remove_unlocked(python: str, log: Path) -> None:
    """Remove packages that no lock pins any more.

    Raises:
        InstallError: pip failed.
    """
    locked = {_normal(name) for lock in locks() for name in pins(lock)}
    installed = {
        _normal(folder.name.split("-")[0]): folder.name.split("-")[0]
        for folder in packages_of(python).glob("*.dist-info")
    }
    if gone := [name for normal, name in installed.items() if normal not in locked | OURS]:
        command = [python, "-m", "pip", "uninstall", "--yes", *gone]
        run(command, Progress("setup: removing what is not locked"), lambda _: "", log=log)


def locks() -> list[Path]:
    """The locks that may be installed into the environment."""
    return [LOCK, *ROOT.glob("bench/**/*.lock"), *ROOT.glob("fuzz/*.lock")]


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def make(venv: Path) -> None:
    """Make the environment, or complete it.

    Raises:
        InstallError: it failed, and a second run continues; or the folder is not an environment
            that set-up made.
    """
    marker, log, python = venv / MARKER, venv / LOG, str(venv / "bin" / "python")
    completing = can_be_completed(venv)
    if not completing and os.path.lexists(venv) and not may_be_removed(venv):
        raise InstallError(f"{venv} was not made by this set-up; give another folder, or remove it")
    marker.unlink(missing_ok=True)
    if completing:
        print(f"setup: 1/4 completing {venv}", flush=True)
    else:
        print(f"setup: 1/4 making {venv}", flush=True)
        begin(venv)
        log.unlink(missing_ok=True)
        empty(venv)
        command = [sys.executable, "-m", "venv", str(venv.absolute())]
        made = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
        if made.returncode:
            raise InstallError(f"no environment:\n{made.stdout}{made.stderr}")
    log.write_text("", encoding="utf-8")
    (venv / MAKING).unlink(missing_ok=True)
    # Packages of the other locks may be removed below.
    shutil.rmtree(venv / MARKERS, ignore_errors=True)
    install(python, LOCK, "setup: 2/4 installing the locked packages", log=log, resume=True)
    remove_unlocked(python, log)
    editable = ["--no-deps", "--no-build-isolation", "--no-index", "--editable", str(ROOT)]
    run(
        [python, "-m", "pip", "install", "--disable-pip-version-check", *editable],
        Progress("setup: 3/4 installing authsvc itself"),
        lambda _: "",
        log=log,
    )
    check(python, "setup: 4/4 checking", log=log)
    own_state = [python, "-c", "from scripts.setup import state; print(state())"]
    done = subprocess.run(own_state, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603
    marker.write_text(done.stdout.strip(), encoding="utf-8")
    print("setup: done", flush=True)


def main() -> None:
    """Make the environment, or check whether it is complete."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("venv", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--base", default="", help="what sys.base_prefix has to be, for --check")
    options = parser.parse_args()
    if options.check:
        sys.exit(not is_complete_environment(options.venv, options.base))
    with explained():
        make(options.venv)


if __name__ == "__main__":
    main()
