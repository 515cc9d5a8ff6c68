"""Clocks: of the store and the issuers against this machine's, and which one is wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median_low
from typing import Protocol
from urllib.parse import urlsplit

from authsvc.common.settings import ConfigError
from authsvc.diagnosis import Check, Report
from authsvc.domain.errors import AuthError
from authsvc.net.clocks import DIFFERS_SECONDS, http_offset, http_time
from authsvc.net.fetching import Fetcher, FetchError
from authsvc.server.config import Settings
from authsvc.server.egress import FetchSettings, fetcher_of
from authsvc.tokens.discovery import metadata_urls

PEER_SECONDS = 4.0
"""How long one clock may take, so that one that does not answer hides none of the others."""

_UNKNOWN = "Synchronise both clocks (NTP); a third clock shows which one is wrong."
_OURS = "This machine's clock is wrong: most of the others agree. Synchronise it (NTP)."
_THEIRS = "That clock is wrong: this machine's agrees with most. Synchronise it (NTP)."


class Fetched(FetchSettings, Protocol):
    """The settings of somebody whose keys are fetched."""

    @property
    def issuer(self) -> str:
        """Claim ``iss``."""
        ...

    @property
    def jwks_url(self) -> str | None:
        """The URL of its keys."""
        ...

    @property
    def metadata_url(self) -> str | None:
        """The URL of its metadata."""
        ...

    @property
    def leeway_seconds(self) -> float:
        """How far its clock may deviate."""
        ...


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody whose clock is compared.

    Attributes:
        name: for the findings.
        machine: what has the clock. Issuers of one host have one.
        offset: measures its clock minus ours, in seconds; None where that is unknown.
        leeway_seconds: beyond which its tokens are rejected; None where it issues none.
    """

    name: str
    machine: str
    offset: Callable[[], Awaitable[float | None]]
    leeway_seconds: float | None = None


def checks(settings: Settings) -> list[Check]:
    """The check of all clocks; none where no other machine's is known."""
    peers = tuple(_peers(settings))
    remedy = "See the findings on the issuers and on the store."
    return [Check("clocks", partial(compare, peers=peers), remedy)] if peers else []


def _peers(settings: Settings) -> Iterator[Peer]:
    for issuer in settings.issuers:
        if issuer.secret_file is None and issuer.jwks_file is None:
            yield _of_issuer(issuer.issuer, issuer, f"issuers[{issuer.issuer}]")
    for stream in () if settings.signals is None else settings.signals.streams:
        if stream.has_own_keys and stream.jwks_file is None:
            yield _of_issuer(f"{stream.issuer} (signals)", stream, stream.table)
    if settings.store.kind == "redis":
        yield Peer("the store", "store", partial(_of_store, settings))


def _of_issuer(name: str, issuer: Fetched, table: str) -> Peer:
    configured = issuer.jwks_url or issuer.metadata_url
    urls = metadata_urls(issuer.issuer) if configured is None else (configured,)

    async def offset() -> float | None:
        try:
            return await _fetched_offset(fetcher_of(issuer, table), urls)
        except ConfigError:
            return None  # a finding on the issuer

    return Peer(name, urlsplit(urls[0]).hostname or "", offset, issuer.leeway_seconds)


async def _fetched_offset(fetcher: Fetcher, urls: Collection[str]) -> float | None:
    """By the first of the URLs that answers."""
    for url in urls:
        began = time.time()
        try:
            _, headers = await fetcher.get(url)
        except FetchError:
            continue
        return http_offset(http_time(headers), (began + time.time()) / 2)
    return None


async def _of_store(settings: Settings) -> float | None:
    """Of its server that is furthest off."""
    # Imported here: the client is slow to import.
    from authsvc.stores.redis.link import Link

    link = Link(settings.store.redis_server())
    try:
        began = time.time()
        times = await link.times()
        ours = (began + time.time()) / 2
    except AuthError:
        return None  # a finding on the store
    finally:
        await link.close()
    return max((it - ours for it in times), key=abs, default=None)


async def compare(report: Report, *, peers: Collection[Peer]) -> None:
    """Compare all clocks with ours."""
    measured = await asyncio.gather(*map(_measured, peers))
    offsets = {peer: it for peer, it in zip(peers, measured, strict=True) if it is not None}
    right = agreed({peer.machine: offset for peer, offset in offsets.items()}.values())
    for peer, offset in offsets.items():
        text = f"{peer.name}: its clock differs from this machine's by {offset:+.0f} s"
        remedy = _remedy(offset, right)
        if peer.leeway_seconds is not None and abs(offset) > peer.leeway_seconds:
            report.fail(f"{text}, beyond leeway_seconds = {peer.leeway_seconds:g}", remedy)
        elif abs(offset) > DIFFERS_SECONDS:
            report.warn(text, remedy)
        else:
            report.ok(text)


async def _measured(peer: Peer) -> float | None:
    """The offset of a clock; None where it cannot be measured, or not in time."""
    try:
        async with asyncio.timeout(PEER_SECONDS):
            return await peer.offset()
    except TimeoutError:
        return None  # a finding on the issuer, or on the store


def agreed(offsets: Collection[float]) -> float | None:
    """The offset of the time that more than half of all clocks have, ours among them.

    Args:
        offsets: of each other machine's clock from ours, in seconds.

    Returns:
        None where there is no such time.
    """
    clocks = [0.0, *offsets]
    middle = median_low(clocks)
    agree = sum(abs(clock - middle) <= DIFFERS_SECONDS for clock in clocks)
    return middle if agree * 2 > len(clocks) else None


def _remedy(offset: float, right: float | None) -> str:
    """What to do about a clock that differs from ours."""
    if right is None:
        return _UNKNOWN
    ours_is_wrong = abs(right) > DIFFERS_SECONDS
    if ours_is_wrong is (abs(offset - right) > DIFFERS_SECONDS):
        return _UNKNOWN  # neither, within what counts as agreement, or both
    return _OURS if ours_is_wrong else _THEIRS
