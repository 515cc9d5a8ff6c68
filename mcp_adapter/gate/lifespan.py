"""The gate opens and closes its resolver with the lifespan of the server that it runs in."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authsvc.common import arguments
from authsvc.domain.resolution import Resolver

log = logging.getLogger(__name__)


def resolver_at(target: str) -> Resolver:
    """A client of the authsvc at ``target``, yet to be opened.

    Raises:
        TypeError: it is no string.
        ValueError: it is no target, or not on this machine: tokens would cross the network in the
            clear.
    """
    # Imported here, so that a gate in front of another resolver knows no gRPC.
    from authsvc.client import AuthClient

    return AuthClient(arguments.instance_of("target", target, str))


def resolver_of(given: Resolver | str) -> Resolver:
    """The resolver that a gate was given, by itself or by its address.

    Raises:
        TypeError: it is neither.
        ValueError: as ``resolver_at``.
    """
    if isinstance(given, str):
        try:
            return resolver_at(given)
        except ValueError as error:
            raise ValueError(f"resolver: {error}") from None
    if hasattr(given, "__enter__") and not hasattr(given, "__aenter__"):
        raise TypeError(
            "resolver is an AuthClient(...), whose methods are awaited; this "
            f"{type(given).__name__} blocks"
        )
    for name in ("resolve", "create", "revoke"):
        if not callable(getattr(given, name, None)) or isinstance(given, type):
            raise TypeError(
                "resolver is an AuthClient(...) or an address like 127.0.0.1:50051; this "
                f"{type(given).__name__} is neither"
            )
    return given


@asynccontextmanager
async def opened(resolver: Resolver) -> AsyncIterator[None]:
    """Open the resolver, if it is one that is opened."""
    async with AsyncExitStack() as stack:
        if isinstance(resolver, AbstractAsyncContextManager):
            await stack.enter_async_context(resolver)
        yield


async def lifespan_within(
    resources: AbstractAsyncContextManager[None],
    app: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Serve the lifespan of ``app`` inside ``resources``, or a plain one if it has none."""
    answered = False
    last: Message = {"type": "lifespan.shutdown.complete"}

    async def hold_the_last(message: Message) -> None:
        # A server ends its loop after it, and what is still to be closed with it.
        nonlocal answered, last
        answered = True
        if message["type"].startswith("lifespan.shutdown."):
            last = message
        else:
            await send(message)

    async with resources:
        try:
            await app(scope, receive, hold_the_last)
        except Exception as error:
            if answered:
                raise
            # Any exception says that an app has none (ASGI "Lifespan Protocol").
            log.info("the app has no lifespan: %s", type(error).__name__)
        if not answered:
            await _start_and_await_shutdown(receive, send)
    await send(last)


async def _start_and_await_shutdown(receive: Receive, send: Send) -> None:
    """Serve a lifespan in the place of an app that has none, up to its last message."""
    await send({"type": "lifespan.startup.complete"})
    while (await receive())["type"] != "lifespan.shutdown":
        pass
