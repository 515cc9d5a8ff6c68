"""Which era of MCP a request belongs to: with a handshake and sessions, or without (2026-07-28).

The header decides, as in the SDK: the gate and the transport behind it have to agree, or a request
could be authorised by one rule and executed by another.
"""

from __future__ import annotations

from mcp_types import DEFAULT_NEGOTIATED_VERSION
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers

PROTOCOL_VERSION_HEADER = "mcp-protocol-version"

BATCH_VERSION = "2025-03-26"
"""The one revision whose servers must accept JSON-RPC batches; later ones forbid them."""


def protocol_version(headers: Headers) -> str:
    """The revision that a request names; without a header it is the last that knew none."""
    return headers.get(PROTOCOL_VERSION_HEADER, DEFAULT_NEGOTIATED_VERSION)


def has_sessions(version: str) -> bool:
    """Whether a revision begins with ``initialize`` and goes by ``Mcp-Session-Id``.

    An unknown revision has none: the SDK then answers with the revisions that are supported.
    """
    return version in HANDSHAKE_PROTOCOL_VERSIONS
