"""White space around header values: no part of them, and not every HTTP server takes it away."""

from __future__ import annotations

from starlette.types import Scope

_WHITE_SPACE = b" \t"


def trimmed(scope: Scope) -> Scope:
    """The scope with its header values as they count (RFC 9110 section 5.5).

    uvicorn leaves the space after a value when it parses with httptools. Values are compared here
    and behind, byte by byte: a padded ``Mcp-Name`` would not be the tool's name.
    """
    headers = scope["headers"]
    if all(value == value.strip(_WHITE_SPACE) for _, value in headers):
        return scope
    return {**scope, "headers": [(name, value.strip(_WHITE_SPACE)) for name, value in headers]}
