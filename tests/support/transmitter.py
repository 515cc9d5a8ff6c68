"""A transmitter of security event tokens that are polled (RFC 8936), made without any code of ours
but the HTTP server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from authsvc.http_server.embedded import EmbeddedServer
from authsvc.http_server.settings import HttpLimits

PATH = "/poll"


@dataclass
class Transmitter:
    """A running transmitter. It answers a poll once it has a SET, or at once where it is asked to.

    Attributes:
        url: where it is polled.
        sets: what it has to send, by ``jti``, until that is acknowledged or reported as an error.
        polls: the polls that have arrived, in order.
        authorizations: their header Authorization.
        errors: what was reported, by ``jti``.
        answers: what it answers first, in place of SETs.
        changed: notified at each poll and each change.
    """

    url: str = ""
    sets: dict[str, object] = field(default_factory=dict)
    polls: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    errors: dict[str, dict[str, str]] = field(default_factory=dict)
    answers: list[Response] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def send(self, **sets: object) -> None:
        """Have SETs to send, by ``jti``."""
        async with self.changed:
            self.sets |= sets
            self.changed.notify_all()

    async def until_polled(self, count: int) -> None:
        """Wait until so many polls have arrived."""
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.polls) >= count)

    async def until_empty(self) -> None:
        """Wait until everything is acknowledged, or reported as an error."""
        async with self.changed:
            await self.changed.wait_for(lambda: not self.sets)

    async def poll(self, request: Request) -> Response:
        """Answer a poll."""
        document = await request.json()
        async with self.changed:
            self.polls.append(document)
            self.authorizations.append(request.headers.get("authorization", ""))
            self.errors |= document.get("setErrs", {})
            if not self.answers:
                for token_id in (*document.get("ack", ()), *document.get("setErrs", ())):
                    self.sets.pop(token_id, None)
            self.changed.notify_all()
            if self.answers:
                return self.answers.pop(0)
            if not document["returnImmediately"]:
                await self.changed.wait_for(lambda: self.sets or self.answers)
            sent = dict(list(self.sets.items())[: document["maxEvents"]])
        return JSONResponse({"sets": sent, "moreAvailable": len(sent) < len(self.sets)})


@asynccontextmanager
async def transmitting() -> AsyncIterator[Transmitter]:
    """Run it on loopback."""
    transmitter = Transmitter()
    app = Starlette(routes=[Route(PATH, transmitter.poll, methods=["POST"])])
    config = uvicorn.Config(app, log_config=None, log_level="critical", lifespan="off")
    config.timeout_graceful_shutdown = 0
    server = EmbeddedServer(config, HttpLimits())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transmitter.url = f"http://127.0.0.1:{listener.getsockname()[1]}{PATH}"
        serving = asyncio.create_task(server.serve([listener]))
        try:
            await server.is_ready(serving)
            yield transmitter
        finally:
            server.should_exit = True
            await serving
