"""``authsvc signals test``."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import click

from authsvc.cli.configuration import config_errors, config_option, load_settings
from authsvc.cli.connection import Connection, admin_options
from authsvc.cli.failing import Failure, Negative, Unreachable
from authsvc.cli.output import as_json_option, print_json, print_line
from authsvc.domain.signal_status import StreamStatus, state_digest

if TYPE_CHECKING:
    from authsvc.client import AdminClient
    from authsvc.server.config import Settings, SignalSettings, SignalStreamSettings

ASK_SECONDS = 0.5
"""From one look at the status to the next."""

_NOT_SHOWN = (
    "This shows that the receiver is reachable from here and verifies signatures. It does not show "
    "that {issuer} sends its signals here, nor that its keys and audiences are as configured: sign "
    "a user out there and look at `authsvc signals status`, or set verification_url where the "
    "provider supports SSF."
)


@dataclass(frozen=True, slots=True)
class Tested:
    """The result of a test.

    Attributes:
        kind: ``verification``, an event of the transmitter; or ``forgery``, a token of ours.
        passed: whether it is as it should be.
        text: what was found, for people.
    """

    kind: str
    passed: bool
    text: str


@click.command(
    "test",
    epilog="Example: authsvc signals test https://idp.example --config authsvc.toml "
    "--service-token-file operator.token --ca-file ca.pem",
)
@click.argument("issuer")
@config_option
@click.option(
    "--wait-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="How long the event may take to arrive.",
)
@admin_options
@as_json_option
def test(
    connection: Connection, issuer: str, config: Path | None, wait_seconds: float, as_json: bool
) -> None:
    """Test the stream of ISSUER, with the configuration of authsvc.

    With verification_url: requests a verification event of the transmitter (SSF 1.0), with a
    random state, and waits until authsvc has received it. That takes a caller with admin = true.

    Without it: sends a forged token to the receiver, which has to reject it. Both are audited, and
    revoke nothing.

    Exit code 0 if the test passes, 1 if not.
    """
    settings = load_settings(config)
    table, stream = _stream_of(settings, issuer)
    if stream.verification_url is not None:
        result = connection.run(lambda client: _verified(client, stream, wait_seconds))
    else:
        result = _forged(settings, table, stream, connection.timeout_seconds)
    if as_json:
        print_json({"issuer": issuer, "kind": result.kind, "passed": result.passed,
                    "detail": result.text})  # fmt: skip
    elif result.passed:
        print_line(result.text)
    if not result.passed:
        raise Negative(result.text)


def _stream_of(settings: Settings, issuer: str) -> tuple[SignalSettings, SignalStreamSettings]:
    """
    Raises:
        Failure: there is no such stream.
    """
    table = settings.signals
    if table is None:
        raise Failure("signals: is not set: authsvc receives none. docs/signals.md shows how")
    by_name = {stream.issuer: stream for stream in table.streams}
    if issuer not in by_name:
        near = get_close_matches(issuer, by_name, n=1)
        hint = f"is it {near[0]}?" if near else f"there are: {', '.join(by_name)}"
        raise Failure(f"signals.streams: no stream has the issuer {issuer}; {hint}")
    return table, by_name[issuer]


async def _verified(
    client: AdminClient, stream: SignalStreamSettings, wait_seconds: float
) -> Tested:
    """
    Raises:
        Failure: the test cannot be made.
        AuthError: authsvc denies the call, or is unreachable.
    """
    from authsvc.server.signal_verification import VerificationError, request_verification

    # Before anything is requested: whether the operator may look.
    await _status(client, stream.issuer)
    state = secrets.token_urlsafe(24)
    began, start_time = asyncio.get_running_loop().time(), time.time()
    with config_errors():
        try:
            await request_verification(stream, state)
        except VerificationError as error:
            return Tested("verification", False, str(error))
    seconds = 0.0
    # However long the request took, the status is looked at once.
    while seconds < wait_seconds:
        found = await _status(client, stream.issuer)
        seconds = asyncio.get_running_loop().time() - began
        if any(it.state_digest == state_digest(state) for it in found.verifications):
            text = (
                f"A verification event of {stream.issuer} with our state arrived within "
                f"{seconds:.1f} s: its signature, audience and way here are as configured."
            )
            return Tested("verification", True, text)
        await asyncio.sleep(min(ASK_SECONDS, wait_seconds))
    text = (
        f"The transmitter has accepted the request, and no verification event arrived within "
        f"{wait_seconds:g} s. {_hint(await _status(client, stream.issuer), start_time)}"
    )
    return Tested("verification", False, text)


async def _status(client: AdminClient, issuer: str) -> StreamStatus:
    """
    Raises:
        Failure: the running service has no such stream.
    """
    for status in await client.signal_streams():
        if status.issuer == issuer:
            return status
    raise Failure(
        f"the authsvc at --target has no stream of {issuer}: it runs with another configuration. "
        "Restart it with this one, or correct --target."
    )


def _hint(found: StreamStatus, start_time: float) -> str:
    """Why no event may have arrived. The clocks of both sides may differ a little."""
    rejection, failure, poll = found.last_rejection, found.last_failure, found.poll_failure
    if rejection is not None and rejection.time >= start_time - 1.0:
        return f"A token that claims to be of the stream was rejected: {rejection.text}"
    if failure is not None and failure.time >= start_time - 1.0:
        return f"A token could not be processed: {failure.text}"
    if found.polls_fail and poll is not None:
        return f"Polls fail: {poll.text}"
    if found.is_polled:
        return "Polls bring none: poll_url is of another stream, or the transmitter is slow."
    return (
        "Nothing has arrived: compare the delivery endpoint_url at the transmitter with the "
        "receiver's public URL, and what is between them."
    )


def _forged(
    settings: Settings, table: SignalSettings, stream: SignalStreamSettings, seconds: float
) -> Tested:
    """
    Raises:
        Failure: a file cannot be used.
        Unreachable: the receiver does not answer.
    """
    from authsvc.diagnosis.forged_signals import send_forged
    from authsvc.diagnosis.signal_receivers import receiver_of

    of_issuer = [it.algorithms for it in settings.issuers if it.issuer == stream.issuer]
    algorithm = (stream.algorithms or of_issuer[0])[0]

    async def sent() -> Tested:
        receiver = receiver_of(settings, table)
        try:
            async with asyncio.timeout(seconds):
                answer = await send_forged(receiver, stream, algorithm)
        except TimeoutError:
            raise OSError(f"{receiver.url}: no answer in {seconds:g} s") from None
        more = f" {_NOT_SHOWN.format(issuer=stream.issuer)}" if answer.is_rejected else ""
        return Tested("forgery", answer.is_rejected, f"{answer.text}{more}")

    with config_errors():
        try:
            return asyncio.run(sent())
        except OSError as error:
            raise Unreachable(
                f"{error}\nStart authsvc on this machine with this configuration, or correct "
                "signals.listen."
            ) from None
