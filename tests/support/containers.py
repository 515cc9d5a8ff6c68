"""The image, built by ``make image``'s script and run without an engine, as a pod would run it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.processes import ROOT, Process

IMAGE = "authsvc:test"
UID = 10001
CONFIGURATION, STATE = "etc/authsvc", "var/lib/authsvc"

_UNSHARED = ("/usr/bin/unshare", "--mount", "--propagation", "private")
_BUILD_SECONDS = 10 * TIMEOUT_SECONDS
_RUN = """
mount --bind "$ROOT" "$ROOT"
mount --rbind /dev "$ROOT/dev"
mount --rbind /proc "$ROOT/proc"
mount --bind "$FOLDER/configuration" "$ROOT/etc/authsvc"
mount --bind "$FOLDER/state" "$ROOT/var/lib/authsvc"
mount --options remount,bind,ro "$ROOT/etc/authsvc"
mount --options remount,bind,ro "$ROOT"
exec setpriv --no-new-privs chroot --userspec=10001:10001 --groups= "$ROOT" "$@"
"""


@contextmanager
def built_image() -> Iterator[Path]:
    """The root of the image's file system. Skips where no image can be built."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("needs root on Debian, for buildah")
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}

    def run(*command: str, seconds: float = TIMEOUT_SECONDS) -> str:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    run("sh", "scripts/image.sh", "--buildah", IMAGE, seconds=_BUILD_SECONDS)
    container = run("buildah", "from", IMAGE)
    try:
        root = Path(run("buildah", "mount", container))
        for folder in (CONFIGURATION, STATE):
            (root / folder).mkdir(parents=True)
        yield root
    finally:
        run("buildah", "rm", container)


@contextmanager
def in_container(root: Path, folder: Path, *arguments: str) -> Iterator[Process]:
    """``python -m`` with ``arguments``, as the image's entry point runs it: as its user, without
    capabilities, on a root that is read-only.

    Args:
        root: of ``built_image``.
        folder: has ``configuration``, which is read, and ``state``, which is written.
        arguments: those of the container.
    """
    command = ("/opt/authsvc/bin/python", "-m", *arguments)
    popen = subprocess.Popen(
        [
            "/usr/bin/unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-euc",
            _RUN,
            "sh",
            *command,
        ],
        env={
            "PATH": os.environ["PATH"],
            "ROOT": str(root),
            "FOLDER": str(folder),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONSAFEPATH": "1",
        },
        cwd="/",
        stderr=subprocess.PIPE,
        text=True,
    )
    process = Process(popen)
    try:
        yield process
    finally:
        process.end()
