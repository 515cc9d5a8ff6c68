"""JSON-RPC messages and batches of them: parsed once, their envelopes checked."""

from __future__ import annotations

from typing import Any, TypeGuard

from mcp_types import RequestId

from authsvc.http_auth import strict_json
from authsvc.http_auth.refusals import bad_request

MAX_BATCH = 50
"""Messages in one batch, at most."""

MAX_REQUEST_ID = 2**63 - 1
"""Largest number that is an id; the smallest is its negative."""

Message = dict[str, Any] | list[Any]
"""A JSON-RPC message, or a batch of them: an object or an array, its members not yet checked."""


def parse(body: bytes) -> Message:
    """The message or batch in a body.

    There is one way to read it, so that what was authorised is what the application behind the gate
    executes, whatever its parser does.

    Raises:
        Refusal: as ``strict_json.decode``; 400 with -32600 for what is neither an object nor an
            array of 1 to ``MAX_BATCH`` entries, none of them an array; for a method that is not a
            string, and for an id that is neither a string nor an integer.
    """
    message = strict_json.decode(body)
    if isinstance(message, list):
        _check_batch(message)
    if not isinstance(message, dict | list):
        raise bad_request("The body is not a JSON-RPC message.")
    for entry in entries(message):
        _check_envelope(entry)
    return message


def entries(message: Message) -> list[dict[str, Any]]:
    """The objects in a message or batch."""
    if isinstance(message, dict):
        return [message]
    return [entry for entry in message if isinstance(entry, dict)]


def calls(message: Message) -> list[tuple[str, dict[str, Any]]]:
    """``(method, params)`` of each request and notification in a message or batch.

    Params that are not an object are given as an empty one; no handler ever gets to see them.
    """
    return [
        (entry["method"], params if isinstance(params := entry.get("params"), dict) else {})
        for entry in entries(message)
        if "method" in entry
    ]


def request_id_of(message: Message) -> RequestId | None:
    """The id that an answer to the whole message carries; None for a batch or a bad one."""
    request_id = message.get("id") if isinstance(message, dict) else None
    return request_id if _is_request_id(request_id) else None


def _check_batch(batch: list[Any]) -> None:
    """
    Raises:
        Refusal: 400 for too many entries, and for an array among them: a server that reads a batch
            within a batch would execute calls that were not authorised. Other entries that are no
            message are the server's to answer, each by itself (JSON-RPC 2.0 section 6).
    """
    if not 0 < len(batch) <= MAX_BATCH or any(isinstance(entry, list) for entry in batch):
        raise bad_request(f"A batch holds 1 to {MAX_BATCH} messages.")


def _check_envelope(entry: dict[str, Any]) -> None:
    """
    Raises:
        Refusal: 400 for a method or an id that is none.
    """
    if not isinstance(entry.get("method", ""), str):
        raise bad_request("A method is a string.")
    # An error without an id has null for it (JSON-RPC 2.0 section 5); a request of MCP has not.
    if "id" in entry and not (_is_request_id(entry["id"]) or _is_error_without_id(entry)):
        raise bad_request("An id is a string or an integer of 64 bits.")


def _is_error_without_id(entry: dict[str, Any]) -> bool:
    return entry["id"] is None and "error" in entry and "method" not in entry


def _is_request_id(value: object) -> TypeGuard[RequestId]:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= MAX_REQUEST_ID
    return isinstance(value, str)
