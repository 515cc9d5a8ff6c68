"""A REST service, no MCP: FastAPI asks authsvc for the caller of each request."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, Header, Request, Response

from authsvc.client import AuthClient, AuthError, HttpError, Principal, bearer_token

RESOURCE = "http://127.0.0.1:8007/"
authsvc = AuthClient(os.environ.get("AUTHSVC", "127.0.0.1:50051"))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep the client open for as long as the service runs."""
    async with authsvc:
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(AuthError)
@app.exception_handler(HttpError)
async def denied(request: Request, error: AuthError | HttpError) -> Response:
    """Answer with the status and the challenge of an error."""
    return Response(*HttpError.of(error))


async def principal(authorization: Annotated[str | None, Header()] = None) -> Principal:
    """Who calls, by the token alone: there is no session."""
    resolution = await authsvc.resolve("", bearer_token(authorization), resource=RESOURCE)
    if resolution.principal is None:
        raise HttpError.unauthenticated()
    return resolution.principal


@app.get("/")
async def whoami(who: Annotated[Principal, Depends(principal)]) -> str:
    """Return the caller and its roles."""
    return f"{who.subject}: {', '.join(who.roles)}"


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8007")))
