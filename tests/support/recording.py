"""A proxy in front of an S3 API that notes whose key signed each request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

import httpx2

from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.http import listening


@dataclass
class Recording:
    """What has passed.

    Attributes:
        url: where the proxy listens.
        calls: (access key id, path with query) of each request.
    """

    url: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def recording(upstream: str) -> Iterator[Recording]:
    """Run the proxy."""
    seen = Recording()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            authorization = self.headers.get("Authorization", "")
            signer = re.search(r"Credential=([^/]+)/", authorization)
            seen.calls.append((signer.group(1) if signer else "nobody", self.path))
            headers = {name: value for name, value in self.headers.items() if name != "Host"}
            answer = httpx2.get(upstream + self.path, headers=headers, timeout=TIMEOUT_SECONDS)
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers.get("content-type", "text/xml"))
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with listening(Handler) as url:
        seen.url = url
        yield seen
