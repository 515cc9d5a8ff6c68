"""How every app of a comparison is served: uvicorn, with one HTTP parser and one event loop."""

from __future__ import annotations

import asyncio
import socket
import sys
from importlib.metadata import version

import uvicorn
import uvloop
from starlette.types import ASGIApp

KEEP_ALIVE_SECONDS = 3_600
"""Connections wait while other sides have their turn."""

SERVED_BY = (
    f"Every app is served by uvicorn {version('uvicorn')} with httptools {version('httptools')} "
    f"and uvloop {version('uvloop')}."
)
"""For notes in reports."""


def configuration(app: ASGIApp) -> uvicorn.Config:
    """Of an app's server. The parser is named: uvicorn would take h11 where httptools is missing,
    and the comparison would be one of parsers."""
    return uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=5,
    )


def run(app: ASGIApp) -> None:
    """Serve on a free port of 127.0.0.1, print the address, and end when standard input does."""
    uvloop.run(_serve(app))


async def _serve(app: ASGIApp) -> None:
    server = uvicorn.Server(configuration(app))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        sys.stdout.write(f"127.0.0.1:{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        server.should_exit = True
        await serving
