"""No MCP, no event loop: a WSGI service with a thread for each request."""

from __future__ import annotations

import os
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIServer, make_server

from authsvc.client import BlockingAuthClient
from authsvc.domain.errors import AuthError, GrpcStatus

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

RESOURCE = "http://127.0.0.1:8005/"
STATUSES = {
    GrpcStatus.UNAUTHENTICATED: "401 Unauthorized",
    GrpcStatus.UNAVAILABLE: "503 Unavailable",
}

authsvc = BlockingAuthClient(os.environ.get("AUTHSVC", "127.0.0.1:50051"))


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Resolve the caller by the token alone: there is no session id."""
    token = environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer ")
    try:
        who = authsvc.resolve("", token, resource=RESOURCE).principal
    except AuthError as error:
        status, text = STATUSES.get(error.reason.status, "403 Forbidden"), error.reason.name
    else:
        status = "200 OK" if who else "401 Unauthorized"
        text = f"{who.subject}: {', '.join(who.roles)}" if who else "no token"
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode()]


class ThreadingServer(ThreadingMixIn, WSGIServer):
    """A thread for each request; they share one client."""

    daemon_threads = True


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8005"))
    with authsvc, make_server("127.0.0.1", port, app, server_class=ThreadingServer) as server:
        print(f"running on http://127.0.0.1:{server.server_port}", flush=True)  # noqa: T201
        server.serve_forever()
