"""mcp_adapter: the ASGI layer that gives each request of an MCP server its own identity.

The names below are public, and so are ``mcp_adapter.aws``, ``mcp_adapter.fastmcp``,
``mcp_adapter.testing`` and ``mcp_adapter.tools``. Other modules are private. A name is imported at
its first use, so that the package itself imports without any extra.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from authsvc.audit.calls import CallAudit
    from authsvc.domain.rates import Rate, RateLimit, RatePer
    from authsvc.http_auth.requirements import (
        Requirement,
        default_requirement,
        with_broader_scopes,
    )
    from mcp_adapter.gate.callers import Caller, NoCredentialsError
    from mcp_adapter.gate.identity import caller, current_caller
    from mcp_adapter.gate.middleware import SessionGate
    from mcp_adapter.gate.origins import with_origin_checks
    from mcp_adapter.http_client import api_client

__all__ = [
    "CallAudit",
    "Caller",
    "NoCredentialsError",
    "Rate",
    "RateLimit",
    "RatePer",
    "Requirement",
    "SessionGate",
    "api_client",
    "caller",
    "current_caller",
    "default_requirement",
    "with_broader_scopes",
    "with_origin_checks",
]

_MODULE_OF = {
    "CallAudit": "authsvc.audit.calls",
    "Caller": "mcp_adapter.gate.callers",
    "NoCredentialsError": "mcp_adapter.gate.callers",
    "Rate": "authsvc.domain.rates",
    "RateLimit": "authsvc.domain.rates",
    "RatePer": "authsvc.domain.rates",
    "Requirement": "authsvc.http_auth.requirements",
    "SessionGate": "mcp_adapter.gate.middleware",
    "api_client": "mcp_adapter.http_client",
    "caller": "mcp_adapter.gate.identity",
    "current_caller": "mcp_adapter.gate.identity",
    "default_requirement": "authsvc.http_auth.requirements",
    "with_broader_scopes": "authsvc.http_auth.requirements",
    "with_origin_checks": "mcp_adapter.gate.origins",
}

if not TYPE_CHECKING:  # type checkers would take any name for one that exists

    def __getattr__(name: str) -> object:
        """A public name, imported.

        Raises:
            AttributeError: there is no such name.
            MissingExtraError: the extra ``middleware`` is not installed.
        """
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import_module("mcp_adapter.gate")  # names the extra, where it is missing
        value = getattr(import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
