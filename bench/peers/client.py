"""An MCP client that costs little: one connection, and requests whose bytes are made once."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

Era = Literal["legacy", "modern"]

LEGACY = "2025-11-25"
MODERN = "2026-07-28"

ANSWER_SECONDS = 30.0

_INITIALIZE = {
    "protocolVersion": LEGACY,
    "capabilities": {},
    "clientInfo": {"name": "bench", "version": "1"},
}
_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}
_MESSAGE = re.compile(rb"^(?:data: )?(\{.*\})\r?$", re.MULTILINE)
"""Of plain JSON or of an event stream."""

_WHOAMI = {"name": "whoami", "arguments": {}}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: of HTTP.
        session_id: header ``Mcp-Session-Id``; empty without one.
        body: as it came.
    """

    status: int
    session_id: str
    body: bytes

    @property
    def text(self) -> str:
        """What the tool said; empty where no tool was reached or it failed."""
        found = _MESSAGE.search(self.body)
        message: dict[str, Any] = json.loads(found[1]) if found else {}
        result = message.get("result", {})
        content = [] if result.get("isError") else result.get("content", [])
        return "".join(it["text"] for it in content)


@dataclass
class Connection:
    """A connection to an MCP endpoint that is kept.

    Attributes:
        seconds: how long each call of ``load`` took.
    """

    address: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    seconds: list[float] = field(default_factory=list)

    async def initialize(self, token: str = "") -> Answer:
        """Open a session, and complete it."""
        opened = await self.exchange(self.request("initialize", _INITIALIZE, token, era="legacy"))
        if opened.status == 200:
            done = "notifications/initialized"
            session = opened.session_id
            await self.exchange(self.request(done, None, token, session, era="legacy"))
        return opened

    async def whoami(self, token: str = "", session: str = "", *, era: Era = "legacy") -> Answer:
        """Call the tool."""
        return await self.exchange(self.call(token, session, era=era))

    def call(self, token: str, session: str = "", *, era: Era) -> bytes:
        """The bytes of a call of the tool."""
        return self.request("tools/call", _WHOAMI, token, session, era=era)

    def request(
        self,
        method: str,
        params: dict[str, Any] | None,
        token: str = "",
        session: str = "",
        *,
        era: Era,
    ) -> bytes:
        """The bytes of a message; one without params is a notification."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        headers = {
            "Host": self.address,
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
        }
        if params is not None:
            message |= {"id": 7, "params": params}
        if era == "modern":
            message["params"] = {**(params or {}), "_meta": _META}
            headers |= {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
            headers |= {"Mcp-Name": params["name"]} if params and "name" in params else {}
        elif method != "initialize":
            headers["MCP-Protocol-Version"] = LEGACY
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if session:
            headers["Mcp-Session-Id"] = session
        body = json.dumps(message).encode()
        headers["Content-Length"] = str(len(body))
        lines = [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join(["POST /mcp HTTP/1.1", *lines, "", ""]).encode() + body

    async def exchange(self, request: bytes) -> Answer:
        """Send bytes and read the answer.

        Raises:
            TimeoutError: there is none.
            ConnectionError: the connection has ended, or the answer is not one.
        """
        async with asyncio.timeout(ANSWER_SECONDS):
            self.writer.write(request)
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            pairs = (line.partition(": ") for line in lines if line)
            headers = {name.lower(): value for name, _, value in pairs}
            if "transfer-encoding" in headers:
                body = await self._chunks()
            else:
                body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(first.split(" ")[1]), headers.get("mcp-session-id", ""), body)

    async def _chunks(self) -> bytes:
        chunks = []
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            chunks.append(await self.reader.readexactly(size))
            await self.reader.readexactly(2)
        await self.reader.readuntil(b"\r\n")
        return b"".join(chunks)

    async def load(self, request: bytes, calls: int, expected: bytes) -> None:
        """The same call again and again, each after the answer to the last.

        Raises:
            ConnectionError: an answer is not as expected.
        """
        for _ in range(calls):
            start = time.perf_counter()
            answer = await self.exchange(request)
            self.seconds.append(time.perf_counter() - start)
            if answer.status != 200 or expected not in answer.body:
                raise ConnectionError(f"{answer.status}: {answer.body[:300]!r}")


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Connection]:
    """A connection, closed on the way out."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Connection(address, reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()
