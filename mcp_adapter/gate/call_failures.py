"""Which calls failed, by the responses to them.

A call that fails is answered with status 200, and a JSON-RPC error or a result with ``isError`` in
the body. Responses are not parsed for that, but those that may hold one, and only in pieces of
bounded length: what is longer, compressed, or in pieces that are no whole message or event is taken
at its status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from mcp_types import RequestId

MAX_BYTES = 64 * 1024
"""Longest piece of a response that is looked at."""

JSON_RPC_ERROR = "JSON_RPC_ERROR"
TOOL_ERROR = "TOOL_ERROR"

_MAY_HAVE_FAILED = re.compile(rb'"error"\s*:|"isError"\s*:\s*true')
_DATA = re.compile(rb"^data:(.*)$", re.MULTILINE)


def failures(piece: bytes) -> list[tuple[RequestId, str]]:
    """The calls that failed, of those that a piece of a response answers: the request's id, and
    why.

    Args:
        piece: a JSON-RPC message or batch, or whole events with one each.
    """
    if len(piece) > MAX_BYTES or _MAY_HAVE_FAILED.search(piece) is None:
        return []
    return [
        (message["id"], reason)
        for message in _messages(piece)
        if (reason := _failure(message)) and isinstance(message.get("id"), int | str)
    ]


def _failure(message: dict[str, Any]) -> str:
    """Why the call failed that a message answers; empty where it did not, or it answers none."""
    if isinstance(message.get("error"), dict):
        return JSON_RPC_ERROR
    result = message.get("result")
    return TOOL_ERROR if isinstance(result, dict) and result.get("isError") is True else ""


def _messages(piece: bytes) -> Iterator[dict[str, Any]]:
    is_json = piece.lstrip()[:1] in {b"{", b"["}
    for text in [piece] if is_json else _DATA.findall(piece.replace(b"\r", b"\n")):
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError):
            continue
        for entry in parsed if isinstance(parsed, list) else [parsed]:
            if isinstance(entry, dict):
                yield entry
