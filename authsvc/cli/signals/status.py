"""``authsvc signals status``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from authsvc.cli.connection import Connection, admin_options
from authsvc.cli.output import as_json_option, print_json, print_line, print_table
from authsvc.common.times import relative, rfc3339

if TYPE_CHECKING:
    from authsvc.domain.signal_status import StreamFailure, StreamStatus

HEADERS = ("ISSUER", "BY", "STATE", "LAST EVENT", "RECEIVED", "LAST REJECTED", "LAST FAILED")


@click.command(
    "status",
    epilog="Example: authsvc signals status --target authsvc.internal:50051 --ca-file ca.pem "
    "--service-token-file operator.token",
)
@admin_options
@as_json_option
def status(connection: Connection, as_json: bool) -> None:
    """Show the streams of signals, and what has come in each, at any replica.

    For a caller with admin = true. A rejected token claims to be of its stream: anybody can
    send one, and it is no problem by itself. Look at it where signals are missing.

    Exit code 0 if nothing is known to be wrong, 1 if a transmitter has paused or disabled a
    stream, polls fail, or signals could not be processed in the last hour.
    """
    streams = connection.run(lambda client: client.signal_streams())
    now = time.time()
    if as_json:
        print_json({"streams": [document(stream, now) for stream in streams]})
    elif not streams:
        print_line("authsvc receives no signals: [signals] is not set.", err=True)
    else:
        print_table(HEADERS, [_row(stream, now) for stream in streams])
        for stream in streams:
            for line in _remarks(stream, now):
                print_line(f"{stream.issuer}: {line}", err=True)
    sys.exit(1 if any(stream.problem(now) for stream in streams) else 0)


def _row(stream: StreamStatus, now: float) -> list[str]:
    """Under ``HEADERS``."""
    event, failures = stream.last_event, _failures(stream)
    newest = max((it.time for _, it in failures), default=None)
    rejection = stream.last_rejection
    return [
        stream.issuer,
        "poll" if stream.is_polled else "push",
        stream.state.name.lower(),
        f"{event.name} ({event.result})" if event else "-",
        relative(event.time, now) if event else "-",
        relative(rejection.time, now) if rejection else "-",
        relative(newest, now) if newest is not None else "-",
    ]


def _failures(stream: StreamStatus) -> list[tuple[str, StreamFailure]]:
    """What went wrong, named, without rejected tokens."""
    named = (("not processed", stream.last_failure), ("poll", stream.poll_failure))
    return [(name, failure) for name, failure in named if failure is not None]


def _remarks(stream: StreamStatus, now: float) -> Iterator[str]:
    """What a row has no place for."""
    if problem := stream.problem(now):
        reason = stream.change.reason if stream.change else ""
        yield f"{problem}: {reason}" if reason else problem
    if (rejection := stream.last_rejection) is not None:
        yield f"rejected {relative(rejection.time, now)}: {rejection.text}"
    for name, failure in _failures(stream):
        yield f"{name} {relative(failure.time, now)}: {failure.text}"
    if stream.is_polled:
        polled = stream.last_poll_time
        yield f"polled {relative(polled, now)}" if polled is not None else "not polled yet"


def document(stream: StreamStatus, now: float) -> dict[str, object]:
    """A stream as JSON.

    Args:
        stream: its status.
        now: seconds since the epoch.
    """
    change, event = stream.change, stream.last_event
    return {
        "issuer": stream.issuer,
        "polled": stream.is_polled,
        "state": stream.state.name.lower(),
        "state_time": rfc3339(change.time) if change else None,
        "state_reason": (change.reason if change else "") or None,
        "problem": stream.problem(now) or None,
        "last_event": {"time": rfc3339(event.time), "name": event.name, "result": event.result}
        if event
        else None,
        "last_rejection": _failure_document(stream.last_rejection),
        "last_failure": _failure_document(stream.last_failure),
        "last_poll_time": rfc3339(stream.last_poll_time) if stream.last_poll_time else None,
        "poll_failure": _failure_document(stream.poll_failure),
        "last_verification_time": rfc3339(stream.verifications[0].time)
        if stream.verifications
        else None,
    }


def _failure_document(failure: StreamFailure | None) -> dict[str, str] | None:
    return None if failure is None else {"time": rfc3339(failure.time), "text": failure.text}
