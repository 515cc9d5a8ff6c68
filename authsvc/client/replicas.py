"""All replicas of authsvc, and the choice of the next one to call."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Self

from authsvc.client.replica import CONNECTED_YET_SECONDS, Replica
from authsvc.client.targets import Endpoint, LookUp, Name, Targets, endpoints_of
from authsvc.domain.errors import AuthError, Reason

log = logging.getLogger(__name__)

LOOK_UP_SECONDS = 5.0
"""How often a name is looked up. The machine's resolver caches records for their TTL."""

START_SECONDS = 2.0
"""How long after it is opened a client without a connection logs that authsvc is unreachable."""

TARGETS_SHOWN = 3
"""How many targets an error names: a name may have many addresses, mostly with one cause."""


class Replicas:
    """The current replicas, for use within ``async with``, and again after that.

    Args:
        targets: their addresses and names.
        look_up: from a name to its addresses.
        connect: makes a replica of an address.
        grace_seconds: how long calls on an outdated connection may continue.
    """

    def __init__(
        self,
        targets: Targets,
        *,
        look_up: LookUp,
        connect: Callable[[Endpoint], Replica],
        grace_seconds: float,
    ) -> None:
        self._targets = targets
        self._look_up = look_up
        self._connect = connect
        self._grace_seconds = grace_seconds
        self._by_endpoint: dict[Endpoint, Replica] = {}
        self._following: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._without_address = dict.fromkeys(targets.names, "not looked up yet")
        self.closed = False
        """Whether the client was closed, and not opened again."""

    async def __aenter__(self) -> Self:
        self.closed = False
        self._update(frozenset(self._targets.endpoints))
        if self._targets.names:
            self._following = asyncio.create_task(self._follow_names())
        self._starting = asyncio.create_task(self._report_start())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.closed = True
        # Removed first: the client may be opened again while these close.
        background = [task for task in (self._following, self._starting) if task is not None]
        self._following = self._starting = None
        replicas, self._by_endpoint = self._by_endpoint, {}
        for replica in replicas.values():
            self._retire(replica, grace_seconds=None)
        closing = tuple(self._closing)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        # They close even if the caller is cancelled.
        await asyncio.shield(asyncio.gather(*closing))

    def renew(self) -> None:
        """Reconnect to all of them; calls in flight finish on the old connections."""
        endpoints = frozenset(self._by_endpoint)
        self._update(frozenset())
        self._update(endpoints)

    def best(self, tried: Collection[Replica]) -> Replica | None:
        """The one to call next; None while none is connected, or none but unresponsive ones while
        another returns: a connection that its server ends for its age is back in milliseconds.

        Prefers healthy replicas, then those not tried, and of two at random the less busy one, so
        that a slow replica gets fewer calls.
        """
        connected = [replica for replica in self._by_endpoint.values() if replica.try_connect()]
        if not any(replica.healthy for replica in connected) and any(
            replica.returning for replica in self._by_endpoint.values()
        ):
            return None
        if len(connected) < 2:
            return connected[0] if connected else None
        rank = min(_rank(replica, tried) for replica in connected)
        among = [replica for replica in connected if _rank(replica, tried) == rank]
        return min(random.sample(among, min(2, len(among))), key=lambda one: one.in_flight)

    async def next_connected(self, tried: Collection[Replica], deadline: float) -> Replica:
        """As ``best``, once a replica is connected.

        Raises:
            AuthError: SERVICE_UNAVAILABLE: none is connected by the deadline, or the client was
                closed.
        """
        try:
            async with asyncio.timeout_at(deadline):
                while not self.closed:
                    await asyncio.sleep(CONNECTED_YET_SECONDS)
                    if (replica := self.best(tried)) is not None:
                        return replica
        except TimeoutError:
            pass
        if self.closed:
            raise AuthError(Reason.SERVICE_UNAVAILABLE, "authsvc: the client was closed")
        why = self.why_unconnected()
        raise AuthError(Reason.SERVICE_UNAVAILABLE, f"authsvc: not connected to {why}")

    def has_other(self, tried: Collection[Replica]) -> bool:
        """Whether there is a healthy one besides those that were tried."""
        return any(
            replica not in tried and replica.healthy and replica.try_connect()
            for replica in self._by_endpoint.values()
        )

    def why_unconnected(self) -> str:
        """Each target without a connection, with the cause if it is known."""
        causes = {
            one.name: one.cause for one in self._by_endpoint.values() if not one.try_connect()
        }
        causes |= {f"{name.host}:{name.port}": why for name, why in self._without_address.items()}
        shown = [f"{name} ({cause or 'no answer yet'})" for name, cause in causes.items()]
        more = len(shown) - TARGETS_SHOWN
        return ", ".join(shown[:TARGETS_SHOWN]) + (f" and {more} more" if more > 0 else "")

    async def _report_start(self) -> None:
        """Log that there is no connection, unless there is one soon: a server that starts before
        authsvc, or with a wrong address, says so before its first caller does."""
        try:
            deadline = asyncio.get_running_loop().time() + START_SECONDS
            await self.next_connected((), deadline)
        except AuthError as error:
            log.warning("%s; calls fail until there is a connection", error.detail)

    async def _follow_names(self) -> None:
        known = dict.fromkeys(self._targets.names, frozenset[Endpoint]())
        while True:
            for name in known:
                # A name that has no address at the moment keeps its replicas.
                known[name] = await self._looked_up(name) or known[name]
            self._update(frozenset(self._targets.endpoints).union(*known.values()))
            await asyncio.sleep(random.uniform(0.5, 1.0) * LOOK_UP_SECONDS)  # noqa: S311 - jitter

    async def _looked_up(self, name: Name) -> frozenset[Endpoint]:
        """The replicas of a name; none if it cannot be looked up."""
        found, failure = frozenset[Endpoint](), "has no address"
        try:
            found = await endpoints_of(name, self._look_up)
        except (OSError, UnicodeError) as error:
            failure = f"cannot be looked up: {str(error) or type(error).__name__}"
            if failure != self._without_address.get(name):
                log.warning("%s %s", name.host, failure)
        if found:
            self._without_address.pop(name, None)
        else:
            self._without_address[name] = failure
        return found

    def _update(self, endpoints: Collection[Endpoint]) -> None:
        for gone in self._by_endpoint.keys() - endpoints:
            self._retire(self._by_endpoint.pop(gone), grace_seconds=self._grace_seconds)
        for new in endpoints - self._by_endpoint.keys():
            self._by_endpoint[new] = self._connect(new)

    def _retire(self, replica: Replica, *, grace_seconds: float | None) -> None:
        closing = asyncio.create_task(replica.close(grace_seconds))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


def _rank(replica: Replica, tried: Collection[Replica]) -> tuple[bool, bool]:
    return not replica.healthy, replica in tried
