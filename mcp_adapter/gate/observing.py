"""An observer of the gate: it learns the method of each message without parsing it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import Scope

from mcp_adapter.gate import messages
from mcp_adapter.gate.read_only import ReadOnlyParams

CallObserver = Callable[[Scope, str, Mapping[str, Any]], None]
"""Called with ``(scope, method, params)`` of each request and notification that a POST brings,
before it is authorised. The scope is the request's as the gate got it."""


def observed(observer: CallObserver, scope: Scope, message: messages.Message) -> None:
    """Call ``observer`` with each call of a message. It cannot change their params."""
    for method, params in messages.calls(message):
        observer(scope, method, ReadOnlyParams(params))
