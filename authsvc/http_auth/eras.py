"""Which era of MCP a request belongs to: with a handshake and sessions, or without (2026-07-28).

The header decides, as in the SDK. The gate and the transport behind it both read it here: otherwise
a request could be authorised by one rule and executed by another.
"""

from __future__ import annotations

from http import HTTPStatus

from mcp_types import DEFAULT_NEGOTIATED_VERSION, UNSUPPORTED_PROTOCOL_VERSION
from mcp_types.version import (
    HANDSHAKE_PROTOCOL_VERSIONS,
    KNOWN_PROTOCOL_VERSIONS,
    MODERN_PROTOCOL_VERSIONS,
)

from authsvc.http_auth.headers import Headers
from authsvc.http_auth.refusals import Refusal

PROTOCOL_VERSION_HEADER = "mcp-protocol-version"

BATCH_VERSION = "2025-03-26"
"""The one revision whose servers must accept JSON-RPC batches; later ones forbid them."""

_SHOWN_CHARACTERS = 64
"""How much of a version that is not known is repeated to its client."""


def protocol_version(headers: Headers) -> str:
    """The revision that a request names; without the header, the last revision without it.

    Raises:
        Refusal: 400 for a revision that is not known, for an empty value and for several: two
            readers could take such a request for one of different eras.
    """
    named = headers.getlist(PROTOCOL_VERSION_HEADER)
    if not named:
        return DEFAULT_NEGOTIATED_VERSION
    if len(named) > 1 or named[0] not in KNOWN_PROTOCOL_VERSIONS:
        raise _unsupported(", ".join(named))
    return named[0]


def has_sessions(version: str) -> bool:
    """Whether a revision begins with ``initialize`` and goes by ``Mcp-Session-Id``."""
    return version in HANDSHAKE_PROTOCOL_VERSIONS


def _unsupported(requested: str) -> Refusal:
    # The error's data omit revisions that ``initialize`` negotiates (MCP 2026-07-28).
    supported = list(MODERN_PROTOCOL_VERSIONS)
    return Refusal(
        HTTPStatus.BAD_REQUEST,
        f"MCP-Protocol-Version must be one of {', '.join(KNOWN_PROTOCOL_VERSIONS)}.",
        code=UNSUPPORTED_PROTOCOL_VERSION,
        data={"supported": supported, "requested": requested[:_SHOWN_CHARACTERS]},
    )
