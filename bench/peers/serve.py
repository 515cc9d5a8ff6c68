"""``python -m bench.peers.serve APP PLACES``: an app on a free port, whose address it prints.

It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys

import uvicorn
import uvloop

from bench.peers.apps import APPS, Places

KEEP_ALIVE_SECONDS = 3_600
"""Connections wait while other sides have their turn."""


async def serve(name: str, places: Places) -> None:
    """Serve until the standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        APPS[name](places),
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    sys.stdout.write(f"127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], Places(**json.loads(sys.argv[2]))))
