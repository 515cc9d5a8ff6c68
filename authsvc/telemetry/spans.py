"""Spans, whether anybody wants them or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

Watch = Callable[[str], AbstractContextManager[object]]

_NOTHING: AbstractContextManager[None] = nullcontext()


class Tracing(Protocol):
    """Makes spans."""

    def served(self, name: str, *traceparents: str) -> AbstractContextManager[object]:
        """A span of kind SERVER.

        Args:
            name: what is served.
            traceparents: contexts of whoever calls (W3C Trace Context). The first good one counts;
                without one, a trace begins.
        """
        ...

    def asked(self, name: str) -> AbstractContextManager[object]:
        """A span of kind CLIENT, under the current one: something is waited for."""
        ...

    def note(self, attributes: Mapping[str, str | int]) -> None:
        """Add to the current span, if there is one; with ``error.type`` it has failed."""
        ...

    def traceparent(self) -> str:
        """The current context, as W3C Trace Context spells it; empty without a span."""
        ...

    def around(self, what: str, watch: Watch) -> Watch:
        """``watch``, with a span for each operation of ``what`` besides."""
        ...


class NoTracing:
    """Makes none."""

    def served(self, name: str, *traceparents: str) -> AbstractContextManager[object]:
        """See ``Tracing``, as for all that follows."""
        return _NOTHING

    def asked(self, name: str) -> AbstractContextManager[object]:
        return _NOTHING

    def note(self, attributes: Mapping[str, str | int]) -> None:
        pass

    def traceparent(self) -> str:
        return ""

    def around(self, what: str, watch: Watch) -> Watch:
        return watch


def both(what: str, asked: Watch, watch: Watch) -> Watch:
    """Two watchers at once, the first of which is told of what the operation is one."""

    @contextmanager
    def watched(operation: str) -> Iterator[None]:
        with asked(f"{what} {operation}"), watch(operation):
            yield

    return watched
