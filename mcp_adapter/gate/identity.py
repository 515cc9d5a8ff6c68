"""Who is asking, for tools behind a ``SessionGate``.

Always of a request, and never of a context variable or a session: those outlive a request, and a
tool in a task that began with ``initialize`` would see who opened the session.
"""

from __future__ import annotations

from starlette.requests import HTTPConnection

from authsvc.domain.resolution import Principal, Resolution


def current_caller(request: HTTPConnection | None) -> Resolution:
    """What the gate learned of this very request.

    Args:
        request: with the official SDK ``ctx.request_context.request``, with FastMCP
            ``get_http_request()``, with Starlette the endpoint's.

    Raises:
        LookupError: it has not come through a gate.
    """
    resolution = getattr(request.state, "resolution", None) if request is not None else None
    if not isinstance(resolution, Resolution):
        raise LookupError("the request has not come through a SessionGate")
    return resolution


def caller(request: HTTPConnection | None) -> Principal:
    """Who made this very request.

    Args:
        request: see ``current_caller``.

    Raises:
        LookupError: nobody who is known: there was no token, or no gate.
    """
    principal = current_caller(request).principal
    if principal is None:
        raise LookupError("the request has no token")
    return principal
