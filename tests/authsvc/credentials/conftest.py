"""An STS whose responses a test sets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from itertools import count
from urllib.parse import parse_qsl

import pytest

from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.http import listening


@dataclass
class FakeSts:
    """A running server.

    Attributes:
        url: where it is.
        clock_time: what its clock shows.
        longest_seconds: no credentials of it last longer.
        errors: (status, code) of the errors to come, in order; then it issues again.
        message: the text of those errors.
        body: what it answers instead, when set.
        calls: the parameters of each call, in order.
        signers: the Authorization header of each call; empty where there was none.
        numbers: of the answers, which the credentials have in their ids.
        arrived: set when a call has arrived.
        hold: answers wait until this is set.
    """

    url: str = ""
    clock_time: float = 0.0
    longest_seconds: float = 43_200.0
    errors: list[tuple[int, str]] = field(default_factory=list)
    message: str = "what was said: keep-me-out-of-logs"
    body: bytes = b""
    calls: list[dict[str, str]] = field(default_factory=list)
    signers: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    arrived: threading.Event = field(default_factory=threading.Event)
    hold: threading.Event = field(default_factory=threading.Event)

    def answer(self, call: dict[str, str]) -> tuple[int, bytes]:
        """Status and body."""
        number = next(self.numbers)
        if self.errors:
            status, code = self.errors.pop(0)
            message = self.message
            error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
            return status, f"<ErrorResponse>{error}</ErrorResponse>".encode()
        if self.body:
            return 200, self.body
        seconds = min(float(call["DurationSeconds"]), self.longest_seconds)
        until = datetime.fromtimestamp(self.clock_time + seconds, UTC)
        action = call["Action"]
        return 200, (
            f"<{action}Response><{action}Result><Credentials>"
            f"<AccessKeyId>ASIA{number:016}</AccessKeyId>"
            f"<SecretAccessKey>secret-{number}</SecretAccessKey>"
            f"<SessionToken>session-{number}</SessionToken>"
            f"<Expiration>{until:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
            f"</Credentials></{action}Result></{action}Response>"
        ).encode()


@pytest.fixture
def fake_sts() -> Iterator[FakeSts]:
    """Run it."""
    sts = FakeSts()
    sts.hold.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            call = dict(parse_qsl(self.rfile.read(length).decode(), keep_blank_values=True))
            sts.calls.append(call)
            sts.signers.append(self.headers.get("Authorization", ""))
            sts.arrived.set()
            sts.hold.wait(TIMEOUT_SECONDS)
            status, body = sts.answer(call)
            self.send_response(status)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with listening(Handler) as url:
        sts.url = url
        try:
            yield sts
        finally:
            sts.hold.set()
