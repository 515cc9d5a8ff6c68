"""``python -m scripts.pythons [TEST…]``: ``make test`` on each Python that the machine has.

Each has a virtual environment of its own, ``.venv-3.12`` and so on. Prints which are missing; exits
with 1 if one fails, or if there is none.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")


def interpreter(version: str) -> str | None:
    """An interpreter of a version, of those on the PATH and pyenv's. None where there is none."""
    for candidate in _candidates(version):
        ask = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        try:
            done = subprocess.run(ask, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired):
            continue
        # A shim of pyenv on the PATH may only print that a version is not active.
        if done.returncode == 0 and done.stdout.strip() == version:
            return candidate
    return None


def _candidates(version: str) -> Iterator[str]:
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = list((root / "versions").glob(f"{version}.*/bin/python{version}"))
    for path in sorted(found, key=lambda it: _release(it.parts[-3]), reverse=True):
        yield str(path)
    if on_path := shutil.which(f"python{version}"):
        yield on_path


def _release(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.split(".") if part.isdigit())


def chosen(newer: bool) -> tuple[dict[str, str], list[str]]:
    """Interpreters by version, and the versions that are missing.

    Args:
        newer: only the newest, and only if it is newer than the one that runs this.
    """
    found = {version: path for version in SUPPORTED if (path := interpreter(version))}
    missing = [version for version in SUPPORTED if version not in found]
    if newer:
        ours = sys.version_info[:2]
        found = {it: found[it] for it in list(found)[-1:] if _release(it) > ours}
    return found, missing


def main() -> None:
    """Run the tests on each, then print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tests", nargs="*", metavar="TEST")
    parser.add_argument(
        "--newer", action="store_true", help="only on the newest, if it is newer than this one"
    )
    options = parser.parse_args()
    interpreters, missing = chosen(options.newer)
    outcomes: dict[str, str] = {}
    for version, path in interpreters.items():
        print(f"Python {version}: {path}", flush=True)
        command = [
            "make",
            "--no-print-directory",
            f"VENV=.venv-{version}",
            f"PYTHON={path}",
            "test",
        ]
        command.append(f"TESTS={' '.join(options.tests)}")
        failed = subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603 - our own
        outcomes[version] = "failed" if failed else "passed"
    outcomes |= dict.fromkeys(missing, "not on this machine, skipped")
    for version in sorted(outcomes, key=_release):
        print(f"Python {version}: {outcomes[version]}", flush=True)
    sys.exit("failed" in outcomes.values() or not (interpreters or options.newer))


if __name__ == "__main__":
    main()
