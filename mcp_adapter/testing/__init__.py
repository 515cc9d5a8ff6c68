"""For the tests of a server behind the gate: callers and tokens, without a running authsvc.

``as_caller`` says who calls a tool: in a request that it makes, or, as a context manager, to the
in-memory clients of the official SDK and of FastMCP. ``FakeResolver`` takes the place of authsvc
behind a ``SessionGate``. ``InMemoryAuthsvc`` is authsvc itself, without a port or a file; it needs
the extra ``server`` as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from authsvc.common import extras

extras.need(__name__, "middleware", "anyio", "mcp_types", "starlette")
# isort: split

from mcp_adapter.testing.fake import ISSUER, FakeResolver
from mcp_adapter.testing.made_requests import CallerRequest, as_caller

if TYPE_CHECKING:
    from mcp_adapter.testing.in_memory import InMemoryAuthsvc

__all__ = ["ISSUER", "CallerRequest", "FakeResolver", "InMemoryAuthsvc", "as_caller"]

if not TYPE_CHECKING:  # type checkers would take any name for one that exists

    def __getattr__(name: str) -> object:
        """``InMemoryAuthsvc``, imported at its first use: it needs another extra.

        Raises:
            AttributeError: there is no such name.
            MissingExtraError: the extra ``server`` is not installed.
        """
        if name != "InMemoryAuthsvc":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from mcp_adapter.testing.in_memory import InMemoryAuthsvc

        globals()[name] = InMemoryAuthsvc
        return InMemoryAuthsvc
