"""The programs of a stage as processes: replicas of authsvc, adapters, and commands."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Any

from chaos.identity import RESOURCE
from chaos.program import Program
from chaos.valkey import free_port
from drills.installation import ROOT, Installation

COMMAND_SECONDS = 120.0


class Replica(Program):
    """A replica of authsvc, at an address of its own and the port of all.

    Args:
        number: from 0; replica 0 is what ``localhost`` means.
        installation: its configuration is written anew at each start.
    """

    def __init__(self, number: int, installation: Installation) -> None:
        super().__init__(f"authsvc-{number}", installation.folder / f"authsvc-{number}.log")
        self.host = f"127.0.0.{number + 1}"
        self._installation = installation
        self.config = installation.folder / f"{self.name}.toml"
        self.events = installation.folder / f"{self.name}.events.jsonl"

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self._installation.port}"

    @property
    def metrics(self) -> str:
        """Where its metrics are, ``host:port``."""
        return f"{self.host}:{self._installation.metrics_port}"

    def command(self) -> Sequence[str]:
        """See ``Program``."""
        self._installation.mount(self.name)
        text = self._installation.authsvc_toml(self.name, self.host)
        self.config.write_text(text, encoding="utf-8")
        return ("-m", "authsvc", "serve", "--config", str(self.config))

    def security_events(self, kind: str = "") -> list[dict[str, Any]]:
        """Events in its audit file: of a type, or all."""
        lines = self.events.read_text(encoding="utf-8").splitlines()
        return [event for event in map(json.loads, lines) if kind in ("", event.get("event_type"))]


class Adapter(Program):
    """An adapter: an MCP server.

    Args:
        name: of it and of its files.
        host: its address.
        installation: its configuration is written anew at each start.
        caller: as which it calls authsvc.
    """

    def __init__(
        self, name: str, host: str, installation: Installation, caller: str = "adapter"
    ) -> None:
        super().__init__(name, installation.folder / f"{name}.log")
        self._address = f"{host}:{free_port()}"
        self._installation = installation
        self._caller = caller
        self.config = installation.folder / f"{name}.toml"
        self.metrics = f"{host}:{installation.metrics_port + 1}"

    @property
    def origin(self) -> str:
        """Its URL without a path."""
        return f"http://{self._address}"

    @property
    def url(self) -> str:
        """Of its endpoint."""
        resource = self._installation.callers.get(self._caller, [RESOURCE])[0]
        return f"{self.origin}/{resource.rpartition('/')[2]}"

    def command(self) -> Sequence[str]:
        """See ``Program``."""
        self._installation.mount(self.name)
        text = self._installation.adapter_toml(self.name, self._address, self._caller)
        self.config.write_text(text, encoding="utf-8")
        names = str(self._installation.names)
        return ("-m", "drills.adapter", "--config", str(self.config), "--names", names)


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended.

    Attributes:
        code: its exit code.
        out: what it printed.
        err: what it reported.
    """

    code: int
    out: str
    err: str

    def json(self) -> Any:  # noqa: ANN401 - whatever the command prints
        """What it printed."""
        return json.loads(self.out)


async def run_as_written(
    command: str, *more: str, config: Path, places: Mapping[str, str | Path] | None = None
) -> Ran:
    """Run a command as a page has it.

    Args:
        command: as in docs/operations.md or docs/runbook.md, which a test compares.
        more: arguments that nobody is there to type: ``--yes``.
        config: of the operator.
        places: what stands here for words of the page, such as an address or a folder.
    """
    program, *arguments = shlex.split(command)
    for word, place in (places or {}).items():
        arguments = [argument.replace(word, str(place)) for argument in arguments]
    if program != "python":
        arguments = ["-m", program.replace("-", "_"), *arguments]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        *more,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "AUTHSVC_ADMIN_CONFIG": str(config)},
        cwd=ROOT,
    )
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ran(process.returncode or 0, out.decode(), err.decode())
