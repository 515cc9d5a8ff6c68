"""What a gateway is answered (envoy.service.auth.v3.CheckResponse), encoded.

The status of a denial is not OK in any case, so that no gateway passes the request on. Its code is
for the gateway's statistics alone: the client gets the HTTP status.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from google.protobuf.struct_pb2 import Struct
from google.rpc import code_pb2

from authsvc.http_auth.refusals import Answer
from authsvc.internal.v1.ext_authz_pb2 import ExtAuthzRequest, ExtAuthzResponse

Metadata = Mapping[str, str | Sequence[str]]
"""Dynamic metadata: texts, and lists of texts, by name."""

_HOP_BY_HOP = frozenset({"connection"})
"""Headers that are the gateway's own affair."""

_CODES = {401: code_pb2.UNAUTHENTICATED, 429: code_pb2.RESOURCE_EXHAUSTED}


@dataclass(frozen=True, slots=True)
class Changes:
    """How the gateway changes an allowed request, and its response. No header is in two of them.

    Attributes:
        set: headers that the upstream gets, in place of those of their names.
        remove: names of headers that it does not get.
        response: headers that the client gets.
    """

    set: Mapping[str, str] = field(repr=False)
    remove: Iterable[str]
    response: Mapping[str, str] = field(repr=False)


def allowed(changes: Changes, metadata: Metadata) -> bytes:
    """The request is passed on."""
    response = ExtAuthzResponse(dynamic_metadata=_struct(metadata))
    response.status.code = code_pb2.OK
    response.ok_response.headers.extend(_options(changes.set))
    response.ok_response.headers_to_remove.extend(changes.remove)
    response.ok_response.response_headers_to_add.extend(_options(changes.response))
    return response.SerializeToString()


@lru_cache(maxsize=1024)
def of_call(method: str, tool: str) -> bytes:
    """What a response to a check says of the message; it follows upon the rest of the response:
    encoded messages that follow each other are one.

    Args:
        method: of MCP, not longer than it is shown; empty without one.
        tool: that is called, likewise.
    """
    named = {"method": method, "tool": tool}
    metadata = _struct({name: value for name, value in named.items() if value})
    return ExtAuthzResponse(dynamic_metadata=metadata).SerializeToString()


def denied(answer: Answer, metadata: Metadata) -> bytes:
    """The gateway answers the request itself."""
    response = ExtAuthzResponse(dynamic_metadata=_struct(metadata))
    response.status.code = _CODES.get(answer.status, code_pb2.PERMISSION_DENIED)
    denial = response.denied_response
    denial.status.code = answer.status
    denial.headers.extend(
        _options({k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP})
    )
    denial.body = answer.body.decode()
    return response.SerializeToString()


def _options(headers: Mapping[str, str]) -> Iterable[ExtAuthzResponse.HeaderValueOption]:
    for name, value in headers.items():
        option = ExtAuthzResponse.HeaderValueOption(
            header=ExtAuthzRequest.HeaderValue(key=name.lower(), value=value),
            append_action=ExtAuthzResponse.APPEND_ACTION_OVERWRITE_IF_EXISTS_OR_ADD,
        )
        option.append.value = False
        yield option


def _struct(metadata: Metadata) -> Struct:
    struct = Struct()
    for name, value in metadata.items():
        if isinstance(value, str):
            struct.fields[name].string_value = value
        else:
            items = struct.fields[name].list_value
            items.SetInParent()
            for text in value:
                items.values.add().string_value = text
    return struct
