"""A real nginx, Debian's."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.bounds import TIMEOUT_SECONDS

LISTENS = "127.0.0.1:8080"
"""Where a configuration says that nginx listens."""

_TEMPORARY = ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")


@contextmanager
def nginx(configuration: str, folder: Path) -> Iterator[str]:
    """nginx on a free port in the place of ``LISTENS``; yields its URL. Skips where there is none.

    It inherits a socket that listens already, as it does at an upgrade: no request comes too early,
    and no port is lost to another process.

    Args:
        configuration: of nginx.
        folder: for its files.
    """
    executable = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if executable is None:
        pytest.skip("there is no nginx; run: apt-get install nginx-light")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        temporary = "\n".join(f"{name}_temp_path {folder}/{name};" for name in _TEMPORARY)
        text = configuration.replace(LISTENS, host).replace(
            "http {", f"http {{\naccess_log off;\n{temporary}\n", 1
        )
        file = folder / "nginx.conf"
        file.write_text(text)
        directives = f"daemon off; worker_processes 1; pid {folder}/pid;"
        command = [executable, "-e", "stderr", "-p", str(folder), "-c", str(file), "-g", directives]
        inherited = listener.fileno()
        process = subprocess.Popen(
            command,
            env={**os.environ, "NGINX": f"{inherited};"},
            pass_fds=[inherited],
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        yield f"http://{host}"
    finally:
        process.terminate()
        _, log = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0, log
