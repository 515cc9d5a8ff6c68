"""npm installs what its lock pins, says in a line what is wrong, and half is never whole."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 300


def tarball(version: str) -> bytes:
    """A package ``alpha`` of that version."""
    content = json.dumps({"name": "alpha", "version": version}).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("package/package.json")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


LOCKED = tarball("1.0.0")
INTEGRITY = "sha512-" + base64.b64encode(hashlib.sha512(LOCKED).digest()).decode()


class Registry(BaseHTTPRequestHandler):
    """Has alpha 1.0.0, and a newer release that nobody can install."""

    def do_GET(self) -> None:
        """Answer with the package's document, or with the one tarball that there is."""
        base = f"http://{self.headers['Host']}/alpha/-/alpha"
        if self.path == "/alpha":
            releases = {
                version: {
                    "name": "alpha",
                    "version": version,
                    "dist": {"tarball": f"{base}-{version}.tgz", "integrity": INTEGRITY},
                }
                for version in ("1.0.0", "9.9.9")
            }
            latest = {"dist-tags": {"latest": "9.9.9"}}
            self._answer(json.dumps({"name": "alpha", **latest, "versions": releases}).encode())
        elif self.path == "/alpha/-/alpha-1.0.0.tgz":
            self._answer(LOCKED)
        else:
            self.send_error(404)

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[str]:
    """Its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A package that needs any alpha, and a lock that pins the older one."""
    folder = tmp_path / "package"
    folder.mkdir()
    wants = {"name": "own", "version": "1.0.0", "dependencies": {"alpha": ">=1"}}
    (folder / "package.json").write_text(json.dumps(wants))
    pinned = {"version": "1.0.0", "integrity": INTEGRITY}
    packages = {"": wants, "node_modules/alpha": pinned}
    head = {"name": "own", "version": "1.0.0", "lockfileVersion": 3, "requires": True}
    (folder / "package-lock.json").write_text(json.dumps({**head, "packages": packages}))
    shutil.copy(ROOT / "tests" / "clients" / ".npmrc", folder)
    return folder


def install(folder: Path, registry: str) -> subprocess.CompletedProcess[str]:
    own = {"npm_config_registry": registry, "npm_config_cache": str(folder.parent / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "scripts.npm", str(folder)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **own},
        timeout=LIMIT_SECONDS,
    )


def version(folder: Path) -> str:
    package = folder / "node_modules" / "alpha" / "package.json"
    return str(json.loads(package.read_text())["version"])


def test_the_lock_is_installed_beside_a_newer_release(folder: Path, registry: str) -> None:
    done = install(folder, registry)

    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert "installing 1 locked packages" in done.stdout
    assert version(folder) == "1.0.0"
    assert install(folder, registry).stdout == "", "it is there"


def test_half_a_folder_is_installed_again(folder: Path, registry: str) -> None:
    assert install(folder, registry).returncode == 0
    (folder / "node_modules" / ".installed").unlink()
    (folder / "node_modules" / "alpha" / "package.json").unlink()

    assert install(folder, registry).returncode == 0

    assert version(folder) == "1.0.0"


def test_the_marker_is_gone_before_npm_changes_anything(folder: Path, registry: str) -> None:
    """Killed while it removes the folder, npm would leave half of one, and perhaps the marker."""
    assert install(folder, registry).returncode == 0
    package = folder / "package.json"
    package.write_text(package.read_text().replace(">=1", ">=2"))

    done = install(folder, registry)

    assert done.returncode == 1, "the lock is another package's"
    assert version(folder) == "1.0.0", "npm has removed nothing"
    assert not (folder / "node_modules" / ".installed").exists()


def test_an_unreachable_registry_is_one_line_and_the_next_run_continues(
    folder: Path, registry: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    done = install(folder, f"http://127.0.0.1:{port}/")

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "a package index is unreachable" in line
    assert not (folder / "node_modules" / ".installed").exists()
    assert install(folder, registry).returncode == 0


def test_another_file_than_the_locked_one_is_refused(folder: Path, registry: str) -> None:
    lock = folder / "package-lock.json"
    lock.write_text(lock.read_text().replace(INTEGRITY, "sha512-" + "A" * 86 + "=="))

    done = install(folder, registry)

    assert done.returncode == 1
    assert "EINTEGRITY" in done.stderr
    assert not (folder / "node_modules" / ".installed").exists()
