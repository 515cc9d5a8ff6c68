"""What a message calls, as the audit names it: methods, and the tools or resources they are for."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mcp_types import RequestId

from authsvc.audit.call_event import cut, declared_arguments
from authsvc.http_auth import messages

DeclaredArguments = Mapping[str, Sequence[str]]
"""By tool, the names of its arguments that are safe to audit."""

TOOL_CALL = "tools/call"

_NAMED_BY = {
    TOOL_CALL: "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "resources/subscribe": "uri",
    "resources/unsubscribe": "uri",
}
"""By method, the member of its params that says what is called."""

_NO_ARGUMENTS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, repr=False)
class NamedCall:
    """One call, in texts of bounded length.

    Attributes:
        method: of MCP; that of HTTP for a request whose message is not known, or that has none.
        tool: name of the tool or prompt, or URI of the resource; empty for other methods.
        arguments: those that the tool declares as safe.
        request_id: of the JSON-RPC request; None for a notification.
    """

    method: str
    tool: str = ""
    arguments: Mapping[str, str] = field(default_factory=lambda: _NO_ARGUMENTS)
    request_id: RequestId | None = None

    @classmethod
    def of(
        cls,
        method: str,
        params: object,
        declared: DeclaredArguments,
        request_id: RequestId | None = None,
    ) -> NamedCall:
        """The call of a method.

        Args:
            method: as the client sent it.
            params: likewise; of any type.
            declared: by tool, the arguments that are audited.
            request_id: of the request.
        """
        known = params if isinstance(params, dict) else {}
        tool = _tool(method, known)
        arguments = _NO_ARGUMENTS
        if method == TOOL_CALL and (names := declared.get(tool)):
            sent = known.get("arguments")
            arguments = declared_arguments(sent, names) if isinstance(sent, dict) else arguments
        return cls(cut(method), cut(tool), arguments, request_id)


def named_calls(message: messages.Message, declared: DeclaredArguments) -> list[NamedCall]:
    """The calls of a message or batch: its requests and notifications. The responses of a client
    call nothing."""
    return [
        NamedCall.of(entry["method"], entry.get("params"), declared, entry.get("id"))
        for entry in messages.entries(message)
        if "method" in entry
    ]


def _tool(method: str, params: Mapping[str, Any]) -> str:
    member = _NAMED_BY.get(method) or _NAMED_BY.get(_folded(method), "")
    name = params.get(member)
    if not isinstance(name, str):
        return ""
    return _without_arguments(name) if member == "uri" else name


def _folded(method: str) -> str:
    """A method without what a server may ignore in it: a call is not hidden by its spelling."""
    return unicodedata.normalize("NFKC", method[:100]).casefold().strip()


def _without_arguments(uri: str) -> str:
    """A URI without query, fragment and user information, which may hold what is not to be audited.

    Not parsed: it may be no URI.
    """
    bare = uri.partition("?")[0].partition("#")[0]
    scheme, separator, rest = bare.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"
