"""``python scripts/install.py LOCK…``: install what locks pin, and nothing else.

Only this module installs packages. A lock is complete, so pip resolves nothing: without
``--no-deps``, pips older than 23.3 consider the newest release of a package that is also required
with an extra, and fail once there is a newer one. Only wheels are installed, because an sdist would
resolve its build requirements. Needs only the standard library: it runs before any installation.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

LOG = "setup.log"
"""In an environment: the file with pip's output. It exists once the environment was made."""

MARKERS = ".locks"
"""In an environment: the folder with a marker for each lock that ``main`` has installed."""

POLL_SECONDS = 0.5
ALIVE_SECONDS = 10.0
"""How often a log gets a line."""

UNREACHABLE = re.compile(
    r"Retrying \(Retry|connection error|ConnectionError|NewConnectionError|Max retries exceeded"
    r"|Connection refused|Read timed out|ReadTimeoutError|ConnectTimeout|Name or service not known"
    r"|Temporary failure in name resolution|ProxyError"
    r"|ECONNREFUSED|ECONNRESET|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|ERR_SOCKET_TIMEOUT",
)
"""What pip and npm print when an index is unreachable."""

ALTERED = re.compile(r"DO NOT MATCH THE HASHES|EINTEGRITY")
"""What they print when an index has other files than the lock."""


class InstallError(Exception):
    """An installation failed. The message is for the terminal."""


def command(python: str, lock: Path, target: str | None = None) -> list[str]:
    """The command that installs a lock.

    Args:
        python: the interpreter whose pip installs.
        lock: the file with the pins and hashes.
        target: the interpreter of the environment to install into; ``python``'s own by default.
    """
    into = [] if target is None else ["--python", target]
    return [
        *(python, "-m", "pip", *into, "install", "--no-deps", "--require-hashes"),
        *("--only-binary", ":all:", "--no-input", "--disable-pip-version-check"),
        *("--progress-bar", "off", "--retries", "2", "--requirement", str(lock)),
    ]


class Progress:
    """One step that may take long: a line that is rewritten on a terminal, a few lines in a log."""

    def __init__(self, what: str) -> None:
        """Report the step ``what``."""
        self._what = what
        self._terminal = sys.stdout.isatty()
        self._started = self._reported = time.monotonic()
        self._last = ""
        print(what, end="" if self._terminal else "\n", flush=True)

    def at(self, state: str) -> None:
        """Report the progress, unless it was reported just now."""
        now = time.monotonic()
        if self._terminal:
            if state != self._last:
                print(f"\r\033[K{self._what}{state and ': '}{state}", end="", flush=True)
        elif now - self._reported >= ALIVE_SECONDS:
            seconds = f"{now - self._started:.0f} s"
            print(f"{self._what}: {state}{state and ', '}{seconds}", flush=True)
            self._reported = now
        self._last = state

    def end(self) -> None:
        """End the line."""
        if self._terminal:
            print(flush=True)


def run(
    arguments: Sequence[str],
    progress: Progress,
    state: Callable[[str], str],
    *,
    log: Path | None = None,
    cwd: Path | None = None,
) -> None:
    """Run a program to its end. Its output goes to the log, and is shown only when it fails.

    Args:
        arguments: the program and its arguments.
        progress: reports the progress.
        state: the progress after a line that it printed; the line is empty while it is silent.
        log: where its output is appended; None keeps it in memory.
        cwd: its working directory; ours by default.

    Raises:
        InstallError: it failed.
    """
    printed: list[str] = []
    process = subprocess.Popen(  # noqa: S603 - our own
        arguments,
        cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        for line in _lines_of(process):
            printed.append(line)
            progress.at(state(line))
        returncode = process.wait()
    finally:
        progress.end()
        if process.poll() is None:
            process.terminate()
            process.wait()
        if log is not None:
            with log.open("a", encoding="utf-8") as file:
                file.writelines((f"$ {' '.join(arguments)}\n", *printed))
    if returncode:
        raise InstallError(_explained("".join(printed), log))


def _lines_of(process: subprocess.Popen[str]) -> Iterator[str]:
    """The lines that a process prints, and an empty one every ``POLL_SECONDS`` without any."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        if process.stdout is not None:
            with process.stdout as output:
                for line in output:
                    lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=POLL_SECONDS)
        except queue.Empty:
            line = ""
        if line is None:
            return
        yield line


def _explained(output: str, log: Path | None) -> str:
    if UNREACHABLE.search(output) and not ALTERED.search(output):
        return (
            "a package index is unreachable; check the network and the index that is configured "
            "(pip config list, npm config list), then run this again: it continues where it stopped"
        )
    if log is None:
        return f"failed:\n{output}"
    errors = re.findall(r"^(?:ERROR|npm (?:ERR!|error)).*(?:\n[ \t]+.*)*", output, re.MULTILINE)
    shown = "\n".join(errors) or output[-2000:].rstrip()
    return f"{shown}\nthe whole output is in {log}"


class _Pip:
    """pip's progress, by its output and by what it has installed."""

    def __init__(self, lock: Path, packages: Path | None) -> None:
        self._total = len(pins(lock))
        self._packages = packages
        self._found = self._new = self._before = 0

    def __call__(self, line: str) -> str:
        if line.startswith("Ignoring "):
            self._total -= 1
        elif line.startswith("Requirement already satisfied"):
            self._found += 1
        elif line.startswith(("Collecting ", "Processing ")):
            self._found += 1
            self._new += 1
        elif line.startswith("Installing collected packages"):
            self._before = self._installed()
            self._found = self._total
        if self._found < self._total or not self._new or not self._before:
            return f"{self._found} of {self._total} found"
        return f"{max(0, self._installed() - self._before)} of {self._new} installed"

    def _installed(self) -> int:
        return 0 if self._packages is None else sum(1 for _ in self._packages.glob("*.dist-info"))


def pins(lock: Path) -> list[str]:
    """The names that a lock pins, each as often as it is pinned."""
    return re.findall(r"^([A-Za-z0-9][\w.-]*)==", lock.read_text(encoding="utf-8"), re.MULTILINE)


def packages_of(python: str) -> Path:
    """The site-packages of an interpreter.

    Raises:
        InstallError: it does not run.
    """
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    try:
        done = subprocess.run(  # noqa: S603 - our own
            [python, "-c", ask], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise InstallError(f"{python} does not run: {error}") from None
    return Path(done.stdout.strip())


def half_removed(packages: Path) -> list[Path]:
    """What a pip that was killed while it replaced or removed a package left in site-packages.

    pip renames the folders of the old release, its metadata first, and removes them last. The
    remaining files have no metadata any more.
    """
    return list(packages.glob("~*/"))


def is_complete(metadata: Path) -> bool:
    """Whether a package was installed completely, and has all its files.

    Args:
        metadata: its ``dist-info`` folder.
    """
    record = metadata / "RECORD"
    if not all(path.is_file() for path in (record, metadata / "METADATA")):
        return False
    with record.open(encoding="utf-8", newline="") as file:
        names = [row[0] for row in csv.reader(file) if row]
    # pip writes INSTALLER and then RECORD last. Before that, RECORD is the wheel's, without it.
    return f"{metadata.name}/INSTALLER" in names and all(
        (metadata.parent / name).exists() for name in names if not name.endswith(".pyc")
    )


def drop_incomplete(packages: Path) -> None:
    """Remove what an interrupted pip has left, so that it is installed again.

    pip considers a package installed if it has metadata.
    """
    for folder in half_removed(packages):
        shutil.rmtree(folder)
    for metadata in packages.glob("*.dist-info"):
        if not metadata.name.startswith("pip-") and not is_complete(metadata):
            shutil.rmtree(metadata)


def install(
    python: str,
    lock: Path,
    label: str,
    *,
    target: str | None = None,
    log: Path | None = None,
    resume: bool = False,
) -> None:
    """Install a lock.

    Args:
        python: the interpreter whose pip installs.
        lock: the file with the pins and hashes.
        label: the name of this step on the terminal.
        target: the interpreter of the environment to install into; ``python``'s own by default.
        log: where pip's output goes; None shows it when pip fails.
        resume: install again what an interrupted run left incomplete.

    Raises:
        InstallError: it failed.
    """
    packages = packages_of(target or python)
    if resume:
        drop_incomplete(packages)
    run(command(python, lock, target), Progress(label), _Pip(lock, packages), log=log)


def check(python: str, label: str, *, target: str | None = None, log: Path | None = None) -> None:
    """Check that the requirements of every installed package are met.

    Raises:
        InstallError: they are not; the message says which.
    """
    into = [] if target is None else ["--python", target]
    checking = [python, "-m", "pip", *into, "check", "--disable-pip-version-check"]
    run(checking, Progress(label), lambda _: "", log=log)


def fingerprint(*parts: bytes) -> str:
    """The content of a marker: a digest of the parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def marker_of(lock: Path) -> Path:
    """The marker of an installed lock, in the environment that runs this."""
    return Path(sys.prefix) / MARKERS / str(lock).strip("/").replace("/", "-")


@contextmanager
def explained() -> Iterator[None]:
    """Around a program: an error is printed as one line, without a traceback."""
    try:
        yield
    except InstallError as error:
        sys.exit(f"setup: {error}")
    except KeyboardInterrupt:
        sys.exit("setup: interrupted; run it again to continue")


def main() -> None:
    """Install the given locks, unless they are installed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("locks", nargs="+", type=Path, metavar="LOCK")
    parser.add_argument("--target", help="the interpreter of another environment to install into")
    options = parser.parse_args()
    with explained():
        for lock in options.locks:
            label = f"setup: installing {lock}"
            state, marker = fingerprint(lock.read_bytes(), sys.version.encode()), marker_of(lock)
            if options.target is not None or sys.prefix == sys.base_prefix:
                install(sys.executable, lock, label, target=options.target)
                check(sys.executable, "setup: checking", target=options.target)
            elif not marker.is_file() or marker.read_text(encoding="utf-8") != state:
                marker.unlink(missing_ok=True)
                log = Path(sys.prefix) / LOG
                install(sys.executable, lock, label, log=log, resume=True)
                check(sys.executable, "setup: checking", log=log)
                marker.parent.mkdir(exist_ok=True)
                marker.write_text(state, encoding="utf-8")


if __name__ == "__main__":
    main()
