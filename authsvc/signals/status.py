"""The status of each stream, which all replicas share: in documents of the store.

It is for operators alone, and best effort: a failure of the store fails no signal for it, and what
could not be written is written later, as long as the process runs. It holds no token, ``sid`` or
subject.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from authsvc.common.printable import printable
from authsvc.domain.digests import text_digest
from authsvc.domain.errors import AuthError, of_setting
from authsvc.domain.signal_status import (
    StreamChange,
    StreamEvent,
    StreamFailure,
    StreamState,
    StreamStatus,
    StreamVerification,
    state_digest,
)
from authsvc.signals.errors import SignalError
from authsvc.signals.event_types import LOGOUT, STREAM_UPDATED, VERIFICATION
from authsvc.signals.observing import Effect, SignalResult
from authsvc.signals.signals import Signal, SignalToken
from authsvc.stores.documents import Document, DocumentStore

log = logging.getLogger(__name__)

WRITE_SECONDS = 1.0
"""How often ``write`` is to be called."""

POLL_SECONDS = 15.0
"""How often a poll that succeeds is noted, after one that did."""

MAX_TEXT_LENGTH = 256
"""Characters of a failure, or of a transmitter's reason."""

_ATTEMPTS = 4
"""At a write that other replicas come before; the next call tries again."""

_FORMAT = 1

_STATES = {state.name.lower(): state for state in StreamState}


class SignalStatuses:
    """The status of all streams: a ``SignalObserver`` and a ``PollObserver``. Belongs to one event
    loop.

    Args:
        streams: whether each stream is polled, by its issuer; in the order of the configuration.
        store: keeps the documents, for all replicas.
        clock: seconds since the epoch.
    """

    def __init__(
        self, streams: Mapping[str, bool], store: DocumentStore, clock: Callable[[], float]
    ) -> None:
        self._noted = {issuer: StreamStatus(issuer, polled) for issuer, polled in streams.items()}
        self._unwritten: set[str] = set()
        self._store = store
        self._clock = clock

    def received(self, token: SignalToken, signal: Signal, effect: Effect) -> None:
        """See ``SignalObserver``. A repeated token changes nothing: somebody may replay it."""
        if effect.result is SignalResult.REPEATED:
            return
        now, issuer = self._clock(), token.stream.issuer
        self._note(issuer, last_event=StreamEvent(now, signal.name, effect.result.value))
        change = _change(signal) if signal.name == STREAM_UPDATED else self._implied(issuer, signal)
        if change is not None:
            self._note(issuer, change=change)
        if signal.name == VERIFICATION:
            state = signal.event.get("state")
            digest = state_digest(state) if isinstance(state, str) else ""
            self._note(issuer, verifications=(StreamVerification(now, digest),))

    def rejected(self, issuer: str, error: SignalError, *, client_address: str) -> None:
        """See ``SignalObserver``."""
        # Without its detail, which quotes the token.
        text = f"{error.code}: {error.description}{of_setting(error.setting)}"
        self._note(issuer, last_rejection=self._failure(text))

    def unavailable(self, issuer: str, error: AuthError) -> None:
        """See ``SignalObserver``."""
        self._note(issuer, last_failure=self._failure(str(error)))

    def polled(self, issuer: str, failure: str) -> None:
        """See ``PollObserver``."""
        noted, now = self._noted[issuer], self._clock()
        if failure:
            self._note(issuer, poll_failure=self._failure(failure))
        elif noted.polls_fail or now >= (noted.last_poll_time or 0.0) + POLL_SECONDS:
            self._note(issuer, last_poll_time=now)

    async def write(self) -> None:
        """Write what is new to the store, as far as that is available."""
        for issuer in sorted(self._unwritten):
            self._unwritten.discard(issuer)
            try:
                is_written = await self._write(issuer)
            except AuthError as error:
                log.debug("the status of %s is not written yet: %s", issuer, error)
                is_written = False
            if not is_written:
                self._unwritten.add(issuer)

    async def read(self) -> tuple[StreamStatus, ...]:
        """The status of each stream, by all replicas, in the order of the configuration.

        Raises:
            AuthError: STORE_UNAVAILABLE.
        """
        return tuple([await self._read(noted) for noted in self.known])

    async def refresh(self) -> None:
        """Read what other replicas have written, as far as the store is available."""
        try:
            await self.read()
        except AuthError as error:
            log.debug("the status of the streams is not read now: %s", error)

    @property
    def known(self) -> tuple[StreamStatus, ...]:
        """The status of each stream, as of the last ``read`` and of what has come here since."""
        return tuple(self._noted.values())

    async def _read(self, noted: StreamStatus) -> StreamStatus:
        stored = await self._store.document(document_name(noted))
        # Something may have come meanwhile.
        status = self._noted[noted.issuer].merged(_status_of(noted, stored))
        self._noted[noted.issuer] = status
        return status

    def _implied(self, issuer: str, signal: Signal) -> StreamChange | None:
        """That the stream is enabled again, where a later event shows it: a transmitter may not say
        so. Logout tokens are of no stream, and a verification may be sent over one that is paused.
        """
        noted = self._noted[issuer]
        if noted.change is None or noted.state is StreamState.ENABLED:
            return None
        if signal.name in (LOGOUT, VERIFICATION) or signal.time <= noted.change.time:
            return None
        return StreamChange(signal.time, StreamState.ENABLED)

    async def _write(self, issuer: str) -> bool:
        """Whether what is noted is in the store now.

        Raises:
            AuthError: STORE_UNAVAILABLE.
        """
        for _ in range(_ATTEMPTS):
            noted = self._noted[issuer]
            name = document_name(noted)
            stored = await self._store.document(name)
            known = _status_of(noted, stored)
            status = known.merged(noted)
            if status == known:
                return True
            if await self._store.put_document(name, Document.after(stored, _content(status))):
                return True
        return False

    def _note(self, issuer: str, **changes: Any) -> None:  # noqa: ANN401 - fields of the status
        """Take in what is new, unless it is of no stream."""
        noted = self._noted.get(issuer)
        if noted is not None:
            new = StreamStatus(issuer, noted.is_polled, **changes)
            self._noted[issuer] = new.merged(noted)
            self._unwritten.add(issuer)

    def _failure(self, text: str) -> StreamFailure:
        return StreamFailure(self._clock(), _bounded(text))


def document_name(status: StreamStatus) -> str:
    """The name of the document of a stream."""
    return f"signals.{text_digest(status.issuer)}"


def _change(signal: Signal) -> StreamChange | None:
    """What an event ``stream-updated`` says; None where that is nothing known."""
    state = _STATES.get(str(signal.event.get("status")))
    if state is None:
        return None
    reason = signal.event.get("reason")
    return StreamChange(signal.time, state, _bounded(reason) if isinstance(reason, str) else "")


def _bounded(text: str) -> str:
    return printable(text[:MAX_TEXT_LENGTH])[:MAX_TEXT_LENGTH]


def _content(status: StreamStatus) -> bytes:
    members = asdict(status)
    del members["issuer"], members["is_polled"]
    if status.change is not None:
        members["change"]["state"] = status.change.state.value
    return json.dumps({"format": _FORMAT, **members}).encode()


def _status_of(noted: StreamStatus, stored: Document | None) -> StreamStatus:
    """What a document says; nothing where there is none, or one of another version of authsvc."""
    nothing = StreamStatus(noted.issuer, noted.is_polled)
    if stored is None:
        return nothing
    try:
        return replace(nothing, **_members(json.loads(stored.content)))
    except (KeyError, TypeError, ValueError):
        return nothing


def _members(document: Mapping[str, Any]) -> dict[str, Any]:
    """
    Raises:
        KeyError: it is of another version.
        TypeError: likewise.
        ValueError: likewise.
    """
    if document["format"] != _FORMAT:
        raise ValueError(document["format"])
    change = _optional(StreamChange, document["change"])
    return {
        "change": change and replace(change, state=StreamState(change.state)),
        "last_event": _optional(StreamEvent, document["last_event"]),
        "last_rejection": _optional(StreamFailure, document["last_rejection"]),
        "last_failure": _optional(StreamFailure, document["last_failure"]),
        "last_poll_time": document["last_poll_time"],
        "poll_failure": _optional(StreamFailure, document["poll_failure"]),
        "verifications": tuple(StreamVerification(**it) for it in document["verifications"]),
    }


def _optional(kind: Callable[..., Any], members: Mapping[str, Any] | None) -> Any:  # noqa: ANN401 - of that kind
    return None if members is None else kind(**members)
