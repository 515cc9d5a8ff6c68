"""Headers in one form for all HTTP servers: values without surrounding white space, names in lower
case."""

from __future__ import annotations

from starlette.types import Scope

_WHITE_SPACE = b" \t"


def trimmed(scope: Scope) -> Scope:
    """The scope with its headers in that form (RFC 9110 sections 5.1 and 5.5).

    uvicorn leaves the space after a value when it parses with httptools. Values are compared here
    and behind, byte by byte: a padded ``Mcp-Name`` would not be the tool's name.
    """
    headers = scope["headers"]
    if all(name.islower() and value == value.strip(_WHITE_SPACE) for name, value in headers):
        return scope
    return {
        **scope,
        "headers": [(name.lower(), value.strip(_WHITE_SPACE)) for name, value in headers],
    }
