"""A request can be read in one way only: the server executes what was authorised.

Parsers differ: in which of two equal headers counts, in whether ``_`` and ``-`` in a name are the
same (CGI, WSGI), in whether a header or the body names the method, in whether the case of a
member's name counts. A request that can be read in two ways is refused. The
server gets the values that were read. docs/security.md lists each header and field.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from mcp_types import HEADER_MISMATCH, METHOD_NOT_FOUND, PROTOCOL_VERSION_META_KEY

from authsvc.http_auth import eras, messages
from authsvc.http_auth.headers import SESSION_ID, Headers, RawHeaders
from authsvc.http_auth.refusals import Refusal, bad_request

_SESSION_ID = SESSION_ID.encode()
_PROTOCOL_VERSION = eras.PROTOCOL_VERSION_HEADER.encode()

_MCP = b"mcp-"
_LAST_EVENT_ID = b"last-event-id"
_OURS = b"x-authsvc-"
_ROUTING = frozenset({b"mcp-method", b"mcp-name"})
_PARAMETER = b"mcp-param-"

_SINGLE = frozenset(
    {
        b"content-type",
        b"content-length",
        b"content-encoding",
        _LAST_EVENT_ID,
        _SESSION_ID,
    }
)
"""Headers that a request has once at most, besides those that other modules check."""

_ONCE = _SINGLE | _ROUTING | {b"authorization", _PROTOCOL_VERSION}

_DROPPED = frozenset(
    {
        # The client's token goes no further.
        b"authorization",
        _SESSION_ID,
        # Some frameworks replace the method of a POST by the one in it.
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        # Likewise the path, by which a request is for one resource or for another.
        b"x-original-url",
        b"x-rewrite-url",
        # Set anew for the body that was read.
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"transfer-encoding",
    }
)
"""Headers of the client's that no server gets, in any spelling (``_SPELLED``)."""

_SPELLED = bytes(code if bytes((code,)).isalnum() else ord("-") for code in range(256))
"""Translates a name into the spelling that it is compared in. CGI and its kin turn ``-`` into
``_``, and some servers every other sign, too."""

_READ = _ONCE | _DROPPED | {b"transfer-encoding", b"upgrade"}

_CONDITIONAL = (_MCP, _LAST_EVENT_ID, _OURS)
"""What begins the names of headers that a server gets in one spelling, and where they count, or
never: what authsvc tells servers, nobody else may."""

_NAMES = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
"""By method, the parameter that Mcp-Name repeats."""

_MEMBERS = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_PARAMS = frozenset({"name", "uri", "arguments", "_meta"})

_ENCODED = re.compile(r"=\?base64\?(.*)\?=")


def check_headers(headers: Headers) -> None:
    """
    Raises:
        Refusal: 400 for what a request has once at most and this one has twice, and for a body of
            two lengths; 415 for a compressed body.
    """
    if headers.has_repeated:
        _check_repeated(name for name, _ in headers.raw)
    if "transfer-encoding" in headers and "content-length" in headers:
        # RFC 9112 section 6.1: an attempt to smuggle a request.
        raise Refusal(
            HTTPStatus.BAD_REQUEST,
            "A body has Content-Length or Transfer-Encoding, not both.",
            headers={"Connection": "close"},
        )
    if "content-encoding" in headers and headers["content-encoding"].lower() != "identity":
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "A body is not compressed here.")


def _check_repeated(names: Iterable[bytes]) -> None:
    """
    Raises:
        Refusal: 400.
    """
    for name, count in Counter(names).items():
        routes = name in _ROUTING or name.startswith(_PARAMETER)
        if count > 1 and (routes or name in _SINGLE):
            code = {"code": HEADER_MISMATCH} if routes else {}
            spelled = name.decode("latin-1").title()
            raise bad_request(f"There is more than one {spelled} header.", **code)


def check_message(version: str, message: messages.Message) -> None:
    """
    Raises:
        Refusal: 400 where ``_meta`` names another revision than ``version``, and for a member whose
            name differs from one that counts by its case alone.
    """
    for entry in messages.entries(message):
        _check_members(entry)
        meta = _params_of(entry).get("_meta")
        if isinstance(meta, dict) and meta.get(PROTOCOL_VERSION_META_KEY, version) != version:
            raise _mismatch("MCP-Protocol-Version is not the revision that _meta names.")


def check_routing(headers: Headers, version: str, message: messages.Message) -> None:
    """
    Raises:
        Refusal: 400 where Mcp-Method or Mcp-Name contradicts the body: a proxy that routes by them
            would take it for another request; 404 for an ``initialize`` of a revision without.
    """
    if eras.has_sessions(version) or not isinstance(message, dict):
        return
    method = message.get("method")
    if method == "initialize":
        raise Refusal(
            HTTPStatus.NOT_FOUND,
            "This revision of MCP has no initialize.",
            code=METHOD_NOT_FOUND,
        )
    if "mcp-method" in headers and headers["mcp-method"] != method:
        raise _mismatch("Mcp-Method is not the method in the body.")
    if "mcp-name" not in headers:
        return
    params = _params_of(message)
    key = _NAMES.get(method) if isinstance(method, str) else None
    # For methods of extensions any parameter may be the one that Mcp-Name repeats.
    names = [params.get(key)] if key else [x for x in params.values() if isinstance(x, str)]
    if (name := _decoded(headers["mcp-name"])) is None or name not in names:
        raise _mismatch("Mcp-Name is not the name in the body.")


def comes_once(name: bytes) -> bool:
    """Whether a request has a header once at most; ``name`` in lower case."""
    return name in _ONCE or name.startswith(_PARAMETER)


def is_read(name: bytes) -> bool:
    """Whether a header can change what becomes of a request, by its value or by being there. All
    others are passed on as they are; ``name`` in any case."""
    spelled = name.lower().translate(_SPELLED)
    return spelled in _READ or spelled.startswith(_CONDITIONAL)


def named_message(headers: Headers, version: str) -> dict[str, Any] | None:
    """The message that Mcp-Method and Mcp-Name name, as far as they do: its method, and the one
    parameter; None where they do not tell which call it is.

    Args:
        headers: of the request.
        version: the revision of MCP.
    """
    if eras.has_sessions(version) or "mcp-method" not in headers:
        return None
    method = headers["mcp-method"]
    if "mcp-name" not in headers:
        return None if method in _NAMES else {"method": method, "params": {}}
    params = {_NAMES.get(method, "name"): _decoded(headers["mcp-name"])}
    return {"method": method, "params": params}


def forwarded(headers: Headers, *, method: str, version: str) -> list[tuple[bytes, bytes]]:
    """The client's headers that the server gets. The session id is set anew where one was
    authorised, and what describes the body where there is one.

    Args:
        headers: of the request.
        method: of the request.
        version: the revision of MCP that it was read as.
    """
    kept: list[tuple[bytes, bytes]] = []
    for header in headers.raw:
        name = header[0]
        spelled = name.translate(_SPELLED)
        if spelled in _DROPPED:
            continue
        if spelled.startswith(_CONDITIONAL) and not _counts(name, spelled, method, version):
            continue
        kept.append(header)
    return kept


def without_ours(headers: RawHeaders) -> RawHeaders:
    """Headers without those by which authsvc tells servers who is asking, for requests that are not
    decided on. Names are in lower case; the same object where there are none."""
    kept = [it for it in headers if not it[0].translate(_SPELLED).startswith(_OURS)]
    return headers if len(kept) == len(headers) else kept


def _counts(name: bytes, spelled: bytes, method: str, version: str) -> bool:
    """Whether a header of MCP means something in a request, where only one spelling does."""
    if spelled.startswith(_OURS):
        return False
    if spelled.startswith(_MCP):
        means_something = name == _PROTOCOL_VERSION or not eras.has_sessions(version)
        # What a tool calls its parameter may have other signs.
        is_own = name == spelled or (name.startswith(_PARAMETER) and b"_" not in name)
        return is_own and means_something
    return spelled != _LAST_EVENT_ID or (name == spelled and method == "GET")


def _check_members(entry: Mapping[str, Any]) -> None:
    """
    Raises:
        Refusal: 400. Parsers that ignore case would take one such member for the other.
    """
    if any(name.casefold() in _MEMBERS for name in entry.keys() - _MEMBERS):
        raise bad_request("The case of a member's name counts.")
    params = _params_of(entry)
    folded = [name.casefold() for name in params]
    if folded == list(params):
        return
    if len(set(folded)) < len(folded) or any(
        lower in _PARAMS and name != lower for name, lower in zip(params, folded, strict=True)
    ):
        raise bad_request("The case of a parameter's name counts.")


def _params_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    params = entry.get("params")
    return params if isinstance(params, dict) else {}


def _decoded(value: str) -> str | None:
    """A header's text (MCP "Value Encoding"); None where its encoding is broken."""
    if (encoded := _ENCODED.fullmatch(value)) is None:
        return value
    try:
        content = base64.b64decode(encoded[1], validate=True)
        return content.decode() if base64.b64encode(content).decode() == encoded[1] else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def _mismatch(message: str) -> Refusal:
    return bad_request(message, code=HEADER_MISMATCH)
