"""``[signals]``: whether the receiver listens, the streams' keys, and their transmitters."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus

from authsvc.client import AdminClient, ClientTls
from authsvc.diagnosis import Check, Report, cause, directly
from authsvc.diagnosis.endpoint_remedies import Place, remedy_of_failure
from authsvc.diagnosis.key_remedies import key_remedy
from authsvc.diagnosis.link import UNANSWERED, check_files
from authsvc.diagnosis.reach import reach
from authsvc.diagnosis.signal_receivers import receiver_of
from authsvc.domain.errors import AuthError
from authsvc.net.failures import Failure, cause_of, failure_of
from authsvc.net.urls import shown_url
from authsvc.server.config import Settings, SignalSettings, SignalStreamSettings
from authsvc.server.egress import proxy_of, trust_of
from authsvc.server.signals import own_keys
from authsvc.tokens.keys import KeyLoadError
from authsvc.tokens.sources import KeySource

_NOT_LISTENING = (
    "Providers send signals to this address: start authsvc, or correct signals.listen. Until then "
    "users who sign out there keep access here."
)
_NOT_VERIFIED = (
    "Until then a running service verifies its signals with the keys that it has fetched for "
    "keys_max_stale_seconds, and answers 503 without any: senders have to send them again."
)


def checks(settings: Settings) -> list[Check]:
    """The checks of ``[signals]``."""
    table = settings.signals
    if table is None:
        return []
    receiver = partial(_look_at_receiver, settings=settings, table=table)
    remedy = f"{UNANSWERED} {_NOT_LISTENING}"
    found = [Check("signals", receiver, remedy, f"signals.listen {table.listen}")]
    for stream in table.streams:
        if stream.has_own_keys:
            remedy = f"{directly(key_remedy('proxy'))} {_NOT_VERIFIED}"
            look = partial(_look_at_keys, stream=stream)
            found.append(Check("signals", look, remedy, f"{stream.issuer}: keys of signals"))
        found += _checks_of_transmitter(stream)
    return found


def _checks_of_transmitter(stream: SignalStreamSettings) -> Iterator[Check]:
    for name in ("poll_url", "verification_url"):
        url: str | None = getattr(stream, name)
        if url is not None:
            place = Place(stream.table, name, stream.proxy is not None)
            look = partial(_look_at_transmitter, stream=stream, place=place, url=url)
            remedy = remedy_of_failure(Failure.TIMEOUT, place)
            yield Check("signals", look, remedy, f"{stream.issuer}: {name} {shown_url(url)}")


def running(target: str, tls: ClientTls | None, timeout_seconds: float) -> Check:
    """What the running service reports of its streams, to an operator."""

    async def ask(report: Report) -> None:
        check_files(tls)
        async with AdminClient(target, deadline_seconds=timeout_seconds / 2, tls=tls) as client:
            streams = await client.signal_streams()
        for stream in streams:
            if problem := stream.problem(time.time()):
                report.warn(
                    f"{stream.issuer}: {problem}",
                    "Users who sign out there may keep access here. Run `authsvc signals status`.",
                )
            elif stream.last_event is None:
                report.note(f"{stream.issuer}: no signal has been received yet")
            else:
                report.ok(f"{stream.issuer}: signals have been received")

    return Check("signals", ask, "See the findings on authsvc above.")


async def _look_at_receiver(report: Report, *, settings: Settings, table: SignalSettings) -> None:
    receiver = receiver_of(settings, table)
    try:
        status, _ = await receiver.answer("GET", "", {})
    except OSError as error:
        report.fail(str(error), _NOT_LISTENING)
        return
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        report.ok(f"{receiver.url} receives signals of {len(table.streams)} providers")
    else:
        report.fail(
            f"{receiver.url} answers {status} to a GET, not 405",
            "Another server listens there: correct signals.listen, or end it.",
        )


async def _look_at_keys(report: Report, *, stream: SignalStreamSettings) -> None:
    source = own_keys(stream)
    if source is None:
        return
    now = time.time()
    await source.refresh(now)
    if source.failure:
        remedy = f"{_remedy_of(source, stream, now)} {_NOT_VERIFIED}"
        report.fail(f"{stream.issuer}: {source.failure}", remedy)
        return
    keys = source.current(now)
    try:
        keys.check_usable()
    except KeyLoadError as error:
        report.fail(f"{stream.issuer}: {error}", f"{key_remedy('')} Its signals are rejected.")
        return
    where = f"{stream.table}.{stream.key_setting}"
    report.ok(f"{stream.issuer}: keys of signals: {len(keys.keys)}, by {where}")


def _remedy_of(source: KeySource, stream: SignalStreamSettings, now: float) -> str:
    """What to do about keys that cannot be loaded: the error has the setting."""
    try:
        source.current(now)
    except AuthError as error:
        is_named = error.setting == "jwks_url" and stream.jwks_url is None
        return key_remedy("jwks_uri" if is_named else error.setting)
    return key_remedy("")


async def _look_at_transmitter(
    report: Report, *, stream: SignalStreamSettings, place: Place, url: str
) -> None:
    name = place.url_setting
    try:
        await reach(url, trust_of(stream, stream.table), proxy_of(stream))
    except OSError as error:
        remedy = remedy_of_failure(failure_of(error), place)
        report.fail(f"{name} {shown_url(url)}: {cause_of(error) or cause(error)}", remedy)
    else:
        report.ok(f"{stream.issuer}: {name} is reachable")
