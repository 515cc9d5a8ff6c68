"""A REST service with threads and no event loop: Flask asks authsvc for the caller."""

from __future__ import annotations

import os

from flask import Flask, request
from flask.typing import ResponseReturnValue

from authsvc.client import AuthError, BlockingAuthClient, HttpError, Principal, bearer_token

RESOURCE = "http://127.0.0.1:8005/"

app = Flask(__name__)
authsvc = BlockingAuthClient(os.environ.get("AUTHSVC", "127.0.0.1:50051"))


@app.errorhandler(AuthError)
@app.errorhandler(HttpError)
def denied(error: AuthError | HttpError) -> ResponseReturnValue:
    """Answer with the status and the challenge of an error."""
    return tuple(HttpError.of(error))


def principal() -> Principal:
    """Who calls, by the token alone: there is no session."""
    token = bearer_token(request.headers.get("Authorization"))
    resolution = authsvc.resolve("", token, resource=RESOURCE)
    if resolution.principal is None:
        raise HttpError.unauthenticated()
    return resolution.principal


@app.get("/")
def whoami() -> str:
    """Return the caller and its roles."""
    who = principal()
    return f"{who.subject}: {', '.join(who.roles)}"


if __name__ == "__main__":
    with authsvc:
        app.run(port=int(os.environ.get("PORT", "8005")), threaded=True)
