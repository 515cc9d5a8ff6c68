"""The interface of tracing, and the implementation that makes no spans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

OperationObserver = Callable[[str], AbstractContextManager[object]]
"""Observes operations: a context manager around each, given the operation's name. It lets every
exception pass."""

_NO_SPAN: AbstractContextManager[None] = nullcontext()


class Tracing(Protocol):
    """Makes spans."""

    def server_span(self, name: str, *traceparents: str) -> AbstractContextManager[object]:
        """A span of kind SERVER.

        Args:
            name: of the operation that is served.
            traceparents: the caller's contexts (W3C Trace Context). The first valid one is the
                parent; without one, a trace begins.
        """
        ...

    def client_span(self, name: str) -> AbstractContextManager[object]:
        """A span of kind CLIENT, under the current one: the time that another part takes."""
        ...

    def set_attributes(self, attributes: Mapping[str, str | int]) -> None:
        """Add to the current span, if there is one; ``error.type`` marks it as failed."""
        ...

    def traceparent(self) -> str:
        """The current context in the form of W3C Trace Context; empty without a span."""
        ...

    def observed(self, component: str, observer: OperationObserver) -> OperationObserver:
        """``observer``, with a client span ``component operation`` for each operation."""
        ...


class NoTracing:
    """Makes no spans."""

    def server_span(self, name: str, *traceparents: str) -> AbstractContextManager[object]:
        """See ``Tracing``, as for the other methods."""
        return _NO_SPAN

    def client_span(self, name: str) -> AbstractContextManager[object]:
        return _NO_SPAN

    def set_attributes(self, attributes: Mapping[str, str | int]) -> None:
        pass

    def traceparent(self) -> str:
        return ""

    def observed(self, component: str, observer: OperationObserver) -> OperationObserver:
        return observer
