"""The routes of the protected resource metadata (RFC 9728)."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from authsvc.http_auth.metadata import METADATA_HEADERS, metadata_document, metadata_paths


def metadata_routes(
    resource: str,
    *,
    authorization_servers: Sequence[str],
    scopes: Sequence[str],
    name: str = "",
) -> list[Route]:
    """The routes of the document; arguments and errors as ``metadata_document``."""
    document = metadata_document(
        resource, authorization_servers=authorization_servers, scopes=scopes, name=name
    )

    async def show(request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": "GET, HEAD, OPTIONS"})
        return JSONResponse(document, headers=METADATA_HEADERS)

    # Public: clients in browsers fetch it before they have a token.
    cors = Middleware(CORSMiddleware, allow_origins=["*"], allow_headers=["*"])
    return [
        Route(path, show, methods=["GET", "OPTIONS"], middleware=[cors])
        for path in metadata_paths(resource)
    ]
