"""A value that is not an ASGI app is rejected at once. The error says what to give instead."""

from __future__ import annotations

from authsvc.common import arguments

_FACTORIES = ("http_app", "streamable_http_app")
"""The methods of FastMCP and of the official SDK's servers that make an ASGI app."""

_PARAMETERS = ("scope", "receive", "send")

_MANY = 100
"""More arguments than any function has that names each of them."""


def check_app(app: object) -> None:
    """
    Raises:
        TypeError: it is no ASGI app.
    """
    for factory in _FACTORIES:
        if callable(getattr(type(app), factory, None)):
            raise TypeError(
                f"app is an ASGI app, not {type(app).__name__}: give what its method .{factory}() "
                "returns"
            )
    if isinstance(app, type):
        raise TypeError(f"app is an ASGI app, not the class {app.__name__}: give an instance")
    if not callable(app):
        raise TypeError(f"app is an ASGI app, not {type(app).__name__}")
    # A function without parameters makes an app, unless it takes ``*args``.
    makes_app = arguments.can_be_called(app, 0) and not arguments.can_be_called(app, _MANY)
    if makes_app or not arguments.can_be_called(app, len(_PARAMETERS)):
        name = getattr(app, "__name__", type(app).__name__)
        raise TypeError(
            f"app is an ASGI app, which takes (scope, receive, send), and {name} does not: if it "
            "makes an app, call it, and give what it returns"
        )
