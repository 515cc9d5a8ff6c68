"""A small HTTP server whose answers a test decides."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.bounds import TIMEOUT_SECONDS


def http_date(seconds: float) -> str:
    """As a header has it (RFC 9110 section 5.6.7)."""
    return formatdate(seconds, usegmt=True)


@dataclass
class Answer:
    """What a path answers with.

    Attributes:
        body: what is sent.
        status: the status.
        headers: further headers.
        until: when set, the body is sent a byte at a time for as long as this is not set.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    until: threading.Event | None = None


@dataclass
class Site:
    """A running server.

    Attributes:
        url: where it is.
        answers: by path.
        requests: the paths that were asked for, in order.
        posted: (headers, body) of what was posted, in order.
        arrived: set when a request has arrived.
        hold: answers wait until this is set.
        clock: its clock, seconds since the epoch.
        date: makes its header ``Date`` of that; None where it has none.
    """

    url: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    posted: list[tuple[dict[str, str], str]] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)
    hold: threading.Event = field(default_factory=threading.Event)
    clock: Callable[[], float] = time.time
    date: Callable[[float], str] | None = http_date


@contextmanager
def serving_http() -> Iterator[Site]:
    """Run it on loopback."""
    site = Site()
    site.hold.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.requests.append(self.path)
            site.arrived.set()
            site.hold.wait(TIMEOUT_SECONDS)
            answer = site.answers.get(self.path, Answer(status=404))
            self.send_response_only(answer.status)
            if site.date is not None:
                self.send_header("Date", site.date(site.clock()))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                if answer.until is not None:
                    while not answer.until.wait(0.01):
                        self.wfile.write(b" ")
                        self.wfile.flush()
                self.wfile.write(answer.body)
            except OSError:
                pass  # the client has had enough

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            site.posted.append((dict(self.headers), self.rfile.read(length).decode()))
            self.do_GET()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with listening(Handler) as url:
        site.url = url
        try:
            yield site
        finally:
            site.hold.set()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Of more than the usual five at once, the rest would be let in after seconds.
    request_queue_size = 256


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on loopback for as long as it is needed, and its URL."""
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(TIMEOUT_SECONDS)
