"""A receiver of signals whose answers a test decides, and the endpoint in front of it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2

from authsvc.server.config import Settings
from authsvc.server.signal_receiver import served_signals
from authsvc.signals.errors import SignalError
from tests.support.bounds import TIMEOUT_SECONDS

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SET = {"Content-Type": "application/secevent+jwt"}


@dataclass(frozen=True)
class FakeReceipt:
    """A ``Receipt``."""

    is_repeated: bool = False


@dataclass
class FakeReceiver:
    """Receives signals, in place of their processing.

    Attributes:
        received: kind, text and sender's address of each signal.
        rejected: what was rejected before: issuer, error and sender's address.
        refused: the setting and the sender's address of each report that there are too many.
        failure: what it raises; None to accept.
        failures: what it raises for single texts.
        arrived: set when a signal has arrived.
        hold: it waits until this is set.
    """

    received: list[tuple[str, str, str]] = field(default_factory=list)
    rejected: list[tuple[str, SignalError, str]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    failure: Exception | None = None
    failures: dict[str, Exception] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.hold.set()

    async def receive_set(self, text: str, *, client_address: str) -> FakeReceipt:
        """See ``SignalReceiver``."""
        return await self._receive("set", text, client_address)

    async def receive_logout(self, text: str, *, client_address: str) -> FakeReceipt:
        """See ``SignalReceiver``."""
        return await self._receive("logout", text, client_address)

    def reject(self, issuer: str, error: SignalError, *, client_address: str) -> None:
        """See ``SignalReceiver``."""
        self.rejected.append((issuer, error, client_address))

    def refuse(self, setting: str, *, client_address: str) -> None:
        """See ``SignalReceiver``."""
        self.refused.append((setting, client_address))

    async def _receive(self, kind: str, text: str, client_address: str) -> FakeReceipt:
        is_repeated = text in {it[1] for it in self.received}
        self.received.append((kind, text, client_address))
        self.arrived.set()
        await self.hold.wait()
        failure = self.failures.get(text, self.failure)
        if failure is not None:
            raise failure
        return FakeReceipt(is_repeated)


@dataclass
class Served:
    """A running endpoint.

    Attributes:
        receiver: what it hands signals to.
        address: where it listens.
        http: a client of it.
        stopping: stops it.
    """

    receiver: FakeReceiver
    address: str
    http: httpx2.AsyncClient
    stopping: asyncio.Event

    async def logout(self, body: bytes | str, **headers: str) -> httpx2.Response:
        """POST a form."""
        return await self.http.post("/signals/logout", content=body, headers=FORM | headers)

    async def push(self, body: bytes | str, **headers: str) -> httpx2.Response:
        """POST a SET."""
        return await self.http.post("/signals/events", content=body, headers=SET | headers)


@asynccontextmanager
async def endpoint(
    settings: Settings,
    verify: ssl.SSLContext | None = None,
    *,
    receiver: FakeReceiver | None = None,
) -> AsyncIterator[Served]:
    """The endpoint of ``settings``, over HTTPS where a client's context is given."""
    assert settings.signals is not None
    receiver, stopping = receiver or FakeReceiver(), asyncio.Event()
    async with served_signals(receiver, settings.signals, settings, stopping) as address:
        port = address.rpartition(":")[2]
        base = f"http://127.0.0.1:{port}" if verify is None else f"https://localhost:{port}"
        async with httpx2.AsyncClient(
            base_url=base,
            verify=verify if verify is not None else True,
            trust_env=False,
            timeout=TIMEOUT_SECONDS,
        ) as http:
            yield Served(receiver, f"127.0.0.1:{port}", http, stopping)
