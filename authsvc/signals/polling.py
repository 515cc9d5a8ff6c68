"""Polls a transmitter for security event tokens (RFC 8936).

A SET is acknowledged once its effect is durable. One that could not be processed is neither
acknowledged nor reported as an error, so that the transmitter sends it again. Several replicas may
poll at once: a SET that two of them get has its effect once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from authsvc.common.secret_file import SecretFileError, read_secret_file
from authsvc.common.unexpected import log_unexpected
from authsvc.domain.errors import AuthError
from authsvc.net.failures import Failure
from authsvc.net.fetching import Fetcher, FetchError
from authsvc.net.watched_file import NewEntries
from authsvc.signals.errors import SignalError, SignalErrorCode
from authsvc.signals.receiving import SignalReceiver
from authsvc.tokens.compact import parse_json_object

log = logging.getLogger(__name__)

MAX_SETS = 100
"""SETs that are asked for at once, and processed of one answer."""

MAX_TOKEN_ID_LENGTH = 1_024
"""Characters of a ``jti`` that is acknowledged."""

LONG_POLL_SECONDS = 90.0
"""How long a poll may take: a transmitter without SETs answers when there is one, or after a time
of its own."""

IDLE_SECONDS = 1.0
"""From one poll without a new SET to the next, where the transmitter answers earlier."""

SETS_PER_SECOND = 100.0
"""SETs of a backlog that are processed each second, about: as many as may be pushed. A transmitter
that always has more takes no more of the service than that."""

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
LONGEST_RETRY_AFTER_SECONDS = 300.0

FLUSH_SECONDS = 2.0
"""How long a stop may take for the last acknowledgements."""


class PollError(Exception):
    """A poll has failed; the message has no secret.

    Attributes:
        retry_after_seconds: how long the transmitter asks to wait; 0 where it does not.
        is_too_much: whether fewer SETs may succeed.
    """

    def __init__(
        self, detail: str, *, retry_after_seconds: float = 0.0, is_too_much: bool = False
    ) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds
        self.is_too_much = is_too_much


class PollObserver(Protocol):
    """Is called after each poll. Does not wait, and does not raise."""

    def polled(self, issuer: str, failure: str) -> None:
        """A poll has ended.

        Args:
            issuer: of the stream.
            failure: why it failed; empty where it did not.
        """
        ...


@dataclass(frozen=True, slots=True)
class Transmitter:
    """Where a stream's SETs are polled.

    Attributes:
        issuer: of the stream.
        url: where polls are sent to.
        authorization_file: has the header Authorization; it is read at each poll.
        fetcher: sends them.
    """

    issuer: str
    url: str
    authorization_file: Path
    fetcher: Fetcher


@dataclass(slots=True)
class _Answers:
    """What the next poll reports: at most ``MAX_SETS`` of both.

    Attributes:
        acknowledged: ``jti`` of SETs whose effect is durable.
        errors: code and description, by ``jti`` of a SET that was rejected.
    """

    acknowledged: list[str] = field(default_factory=list)
    errors: dict[str, dict[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.acknowledged or self.errors)

    def members(self) -> dict[str, object]:
        """The members of a poll."""
        members = {"ack": self.acknowledged, "setErrs": self.errors}
        return {name: value for name, value in members.items() if value}


class SetPoller:
    """Polls one transmitter until it is stopped.

    Args:
        transmitter: is polled.
        receiver: verifies SETs and carries them out.
        observers: are called after each poll, in their order.
        max_set_bytes: longest SET.
    """

    def __init__(
        self,
        transmitter: Transmitter,
        receiver: SignalReceiver,
        observers: Sequence[PollObserver],
        *,
        max_set_bytes: int,
    ) -> None:
        self._transmitter = transmitter
        self._receiver = receiver
        self._observers = tuple(observers)
        self._max_set_bytes = max_set_bytes
        self._answers = _Answers()
        self._max_sets = MAX_SETS
        self._pause = FIRST_PAUSE_SECONDS
        self._failures: NewEntries[str] = NewEntries()

    async def run(self, stopping: asyncio.Event) -> None:
        """Poll until ``stopping`` is set. What is being processed then is finished, and
        acknowledged if the transmitter can be reached; else it will send it again."""
        while not stopping.is_set():
            began = asyncio.get_running_loop().time()
            try:
                pause = await self._once(stopping)
            except PollError as error:
                pause = self._failed(error)
            except Exception as error:  # noqa: BLE001 - a bug must not end it
                log_unexpected(log, "a poll failed unexpectedly", error)
                pause = self._failed(PollError("it failed unexpectedly"))
            left = began + pause - asyncio.get_running_loop().time()
            await _set_within(stopping, left)
        await self._flush()

    async def _once(self, stopping: asyncio.Event) -> float:
        """One poll, and the SETs that it brings; returns the seconds from its begin to the next.

        Raises:
            PollError: it failed.
        """
        sets = await self._polled(stopping)
        if sets is None:
            return 0.0
        self._answers = _Answers()
        has_new, is_complete = await self._process(sets)
        if not is_complete:
            raise PollError("SETs could not be processed, and were not acknowledged")
        self._pause = FIRST_PAUSE_SECONDS
        self._max_sets = min(MAX_SETS, 2 * self._max_sets)
        self._failures.of(())
        self._report("")
        return min(len(sets), MAX_SETS) / SETS_PER_SECOND if has_new else IDLE_SECONDS

    def _failed(self, error: PollError) -> float:
        """The pause after a failed poll, in seconds."""
        for failure in self._failures.of([str(error)]):
            log.warning("polling %s: %s", self._transmitter.issuer, failure)
        self._report(str(error))
        if error.is_too_much:
            self._max_sets = max(1, self._max_sets // 2)
        pause = max(self._pause, error.retry_after_seconds)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return pause * random.uniform(1.0, 1.5)  # noqa: S311 - jitter

    def _report(self, failure: str) -> None:
        for observer in self._observers:
            observer.polled(self._transmitter.issuer, failure)

    async def _polled(self, stopping: asyncio.Event) -> Mapping[str, object] | None:
        """The SETs of a poll, by ``jti``; None where it was stopped before.

        Raises:
            PollError: it failed.
        """
        polling = asyncio.ensure_future(
            self._exchange(
                {
                    "maxEvents": self._max_sets,
                    "returnImmediately": False,
                    **self._answers.members(),
                },
                LONG_POLL_SECONDS,
            )
        )
        stopped = asyncio.ensure_future(stopping.wait())
        try:
            await asyncio.wait({polling, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return _sets(polling.result()) if polling.done() else None
        finally:
            for task in (polling, stopped):
                task.cancel()
            await asyncio.wait({polling, stopped})

    async def _exchange(self, document: Mapping[str, object], seconds: float) -> bytes:
        """
        Raises:
            PollError: there is no answer of use.
        """
        try:
            authorization = read_secret_file(self._transmitter.authorization_file)
        except SecretFileError as error:
            raise PollError(f"poll_authorization_file: {error}") from None
        try:
            body, _ = await self._transmitter.fetcher.post_json(
                self._transmitter.url,
                json.dumps(document).encode(),
                {"Authorization": authorization},
                timeout_seconds=seconds,
            )
        except FetchError as error:
            raise PollError(
                str(error),
                retry_after_seconds=_retry_after(error.retry_after),
                is_too_much=error.failure is Failure.ANSWER and error.status is None,
            ) from None
        return body

    async def _process(self, sets: Mapping[str, object]) -> tuple[bool, bool]:
        """Whether one of the SETs was new and accepted, and whether all could be processed."""
        has_new = False
        is_complete = True
        for token_id, text in list(sets.items())[:MAX_SETS]:
            if len(token_id) > MAX_TOKEN_ID_LENGTH:
                continue  # it cannot be acknowledged; the transmitter's own are short
            try:
                has_new = not await self._receive(text) or has_new
                self._answers.acknowledged.append(token_id)
            except SignalError as error:
                self._answers.errors[token_id] = {
                    "err": error.code,
                    "description": error.description,
                }
            except AuthError as error:
                log.warning("a signal could not be processed: %s", error)
                return has_new, False  # the others would fail as well
            except Exception as error:  # noqa: BLE001 - a bug must not keep the others
                log_unexpected(log, "a signal failed unexpectedly", error)
                is_complete = False
        return has_new, is_complete

    async def _receive(self, text: object) -> bool:
        """Whether a SET had been received before.

        Raises:
            SignalError: it is rejected.
            AuthError: it could not be processed now.
        """
        if not isinstance(text, str) or len(text) > self._max_set_bytes:
            raise SignalError(
                SignalErrorCode.INVALID_REQUEST,
                f"The SET is not a string of at most {self._max_set_bytes} characters.",
            )
        receipt = await self._receiver.receive_set(text, client_address="")
        return receipt.is_repeated

    async def _flush(self) -> None:
        """Report what has been processed, without asking for more."""
        if not self._answers:
            return
        document = {"maxEvents": 0, "returnImmediately": True, **self._answers.members()}
        try:
            await self._exchange(document, FLUSH_SECONDS)
        except PollError as error:
            log.warning(
                "polling %s: the last SETs could not be acknowledged, and will be sent again: %s",
                self._transmitter.issuer,
                error,
            )


def _sets(body: bytes) -> Mapping[str, object]:
    """
    Raises:
        PollError: the answer is not as RFC 8936 section 2.3 has it.
    """
    if not body:
        return {}
    try:
        sets = parse_json_object(body).get("sets", {})
    except ValueError:
        raise PollError("the answer is not a JSON object") from None
    if not isinstance(sets, dict):
        raise PollError("the answer's sets are not an object")
    return sets


def _retry_after(header: str) -> float:
    """The seconds of a header Retry-After; 0 for a date, or without it."""
    is_number = header.isascii() and header.isdigit() and len(header) < 10
    return min(float(header), LONGEST_RETRY_AFTER_SECONDS) if is_number else 0.0


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, no longer than that."""
    if seconds > 0.0 and not event.is_set():
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
