"""The resources that the suite reads."""

from __future__ import annotations

import json
import re

import mcp_types as types
from mcp.shared.exceptions import MCPError

from conformance.tools import PIXEL, Context

_TEXT = "test://static-text"
_BINARY = "test://static-binary"
_WATCHED = "test://watched-resource"
_TEMPLATE = re.compile("test://template/([^/]+)/data")


async def list_resources(
    ctx: Context, params: types.PaginatedRequestParams | None
) -> types.ListResourcesResult:
    """``resources/list``."""
    listed = {_TEXT: "text/plain", _BINARY: "image/png", _WATCHED: "text/plain"}
    return types.ListResourcesResult(
        resources=[
            types.Resource(
                uri=uri, name=uri.rpartition("/")[2], description=uri, mime_type=mime_type
            )
            for uri, mime_type in listed.items()
        ]
    )


async def list_templates(
    ctx: Context, params: types.PaginatedRequestParams | None
) -> types.ListResourceTemplatesResult:
    """``resources/templates/list``."""
    template = types.ResourceTemplate(
        uri_template="test://template/{id}/data", name="template", description="Data by id."
    )
    return types.ListResourceTemplatesResult(resource_templates=[template])


async def read(ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    """``resources/read``.

    Raises:
        MCPError: invalid params, with the URI, for an unknown resource (SEP-2164).
    """
    uri = str(params.uri)
    return types.ReadResourceResult(contents=[_contents(uri)])


def _contents(uri: str) -> types.TextResourceContents | types.BlobResourceContents:
    if uri == _BINARY:
        return types.BlobResourceContents(uri=uri, mime_type="image/png", blob=PIXEL)
    if uri == _TEXT:
        return _text(uri, "This is the content of the static text resource.")
    if uri == _WATCHED:
        return _text(uri, "Watched resource content")
    if match := _TEMPLATE.fullmatch(uri):
        data = {"id": match[1], "templateTest": True, "data": f"Data for ID: {match[1]}"}
        return _text(uri, json.dumps(data), "application/json")
    raise MCPError(types.INVALID_PARAMS, "Resource not found", {"uri": uri})


def _text(uri: str, text: str, mime_type: str = "text/plain") -> types.TextResourceContents:
    return types.TextResourceContents(uri=uri, mime_type=mime_type, text=text)


async def subscribe(ctx: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
    """``resources/subscribe``: nothing here ever changes."""
    return types.EmptyResult()


async def unsubscribe(ctx: Context, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
    """``resources/unsubscribe``."""
    return types.EmptyResult()
