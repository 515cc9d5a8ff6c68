"""``python -m drills.adapter``: the adapter, whose name of authsvc is looked up in a file.

Nothing but the name server differs from ``python -m mcp_adapter serve``: the file has an address of
a replica on each line, and is read at each lookup, as a headless service of Kubernetes is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click
import uvloop

from authsvc.client import AuthClient
from authsvc.common.settings import load
from authsvc.telemetry import logs
from mcp_adapter.server import running
from mcp_adapter.server.config import Settings


async def _look_up(names: Path, host: str, port: int) -> Sequence[str]:
    return names.read_text(encoding="ascii").split()  # noqa: ASYNC240 - a line, in memory


@click.command()
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--names", type=click.Path(path_type=Path, dir_okay=False), required=True)
def main(config: Path, names: Path) -> None:
    """Serve MCP; the replicas of authsvc are those in a file."""

    # The composition root has no argument for it, as nobody but a drill needs one.
    defaults = AuthClient.__init__.__kwdefaults__ or {}
    defaults["look_up"] = partial(_look_up, names)
    settings = load(Settings, config)
    logs.configure(settings.log_level, settings.log_format)
    uvloop.run(running.serve(settings))


if __name__ == "__main__":
    main()
