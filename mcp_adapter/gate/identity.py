"""The caller of a request, for tools behind a ``SessionGate``.

It is read from the request, never from a context variable or a session: those outlive a request,
so a tool in a task that began with ``initialize`` would see the caller that opened the session.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from starlette.requests import HTTPConnection

from authsvc.domain.resolution import Resolution
from mcp_adapter.gate.callers import Caller
from mcp_adapter.gate.request_credentials import STATE_KEY, RequestCredentials

_in_memory: ContextVar[HTTPConnection | None] = ContextVar("in_memory", default=None)


@contextmanager
def in_memory(request: HTTPConnection) -> Iterator[None]:
    """Make ``request`` that of calls without HTTP. For ``mcp_adapter.testing`` alone: a gate never
    sets it, and where there is a request, that one counts."""
    before = _in_memory.set(request)
    try:
        yield
    finally:
        _in_memory.reset(before)


def current_caller(request: HTTPConnection | None) -> Resolution:
    """The resolution of this request: its session, its caller and the caller's credentials.

    Behind a gate with ``credentials="on_demand"`` it has no credentials: ask
    ``caller(request).credentials()``.

    Args:
        request: with the official SDK ``ctx.request_context.request``, with FastMCP
            ``get_http_request()``, with Starlette the endpoint's.

    Raises:
        LookupError: the request has not come through a gate.
        TypeError: it is no request, but a framework's context, for example.
    """
    if request is not None and not isinstance(request, HTTPConnection):
        raise TypeError(
            f"request is the HTTP request, not {type(request).__name__}: with the official SDK "
            "ctx.request_context.request, with FastMCP get_http_request()"
        )
    connection = _current(request)
    resolution = _state(connection, "resolution")
    if not isinstance(resolution, Resolution):
        raise LookupError("the request has not come through a SessionGate")
    return resolution


def caller(request: HTTPConnection | None) -> Caller:
    """The principal that made this request, which asks authsvc for its credentials by name.

    Args:
        request: see ``current_caller``.

    Raises:
        LookupError: the request has no token, or has not come through a gate.
        TypeError: see ``current_caller``.
    """
    principal = current_caller(request).principal
    if principal is None:
        raise LookupError("the request has no token")
    credentials = _state(_current(request), STATE_KEY)
    return Caller.of(
        principal, credentials if isinstance(credentials, RequestCredentials) else None
    )


def _current(request: HTTPConnection | None) -> HTTPConnection | None:
    return _in_memory.get() if request is None else request


def _state(request: HTTPConnection | None, name: str) -> object:
    """What the state of a request has by this name; None for nothing."""
    return getattr(request.state, name, None) if request is not None else None
