"""An S3 API that takes its time, which a real one does not do when a test wants it to."""

from __future__ import annotations

import anyio
import anyio.lowlevel
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mcp_adapter.tools.s3 import S3Clients

_PAGE = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<IsTruncated>true</IsTruncated><Name>alpha</Name><KeyCount>1</KeyCount>
<Contents><Key>first</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>
<ETag>"e"</ETag><Size>1</Size></Contents></ListBucketResult>"""


class SlowStorage:
    """HEAD requests wait for company; of a listing the first page comes, and no other ever does.

    Attributes:
        url: where it is served.
        clients: to speak to it with; set once it is served.
        holds: how many HEAD requests have to wait before they are answered.
        most_at_once: how many did.
        hangs: set when a request waits for data that does not come.
        left: set when they have gone.
    """

    url: str
    clients: S3Clients

    def __init__(self) -> None:
        self.holds = 1
        self.most_at_once = 0
        self.hangs = anyio.Event()
        self.left = anyio.Event()
        self._waiting = 0
        self._company = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["method"] == "HEAD":
            await self._wait_for_company()
            await Response()(scope, receive, send)
        elif b"start-after=" not in scope["query_string"]:
            await Response(_PAGE, media_type="application/xml")(scope, receive, send)
        else:
            self.hangs.set()
            while (await receive())["type"] != "http.disconnect":
                """The rest of the request."""
            self.left.set()

    async def _wait_for_company(self) -> None:
        self._waiting += 1
        self.most_at_once = max(self.most_at_once, self._waiting)
        if self._waiting == self.holds:
            # Turns of the loop in which one more would arrive, if it could.
            for _ in range(100):
                await anyio.lowlevel.checkpoint()
            self._company.set()
            self._company = anyio.Event()
        else:
            await self._company.wait()
        self._waiting -= 1
