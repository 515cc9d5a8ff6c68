"""The promises, each a pure function from a history to what broke it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from chaos.history import Act, Call

BOUND_SECONDS = 1.0
"""An acknowledged revocation is obeyed everywhere within it."""

SLACK_SECONDS = 0.25
"""What a deadline may be overrun by: clients share the machine with all the servers of a run."""

MEND_SECONDS = 1.0
"""A failure counts as mended if a repeat that begins within it succeeds."""

ASKED_SECONDS = 0.1
"""Whoever measures how long a replica takes to obey has asked it within this time at first."""

_Question = tuple[str, str, str, int]
"""(replica, session, subject, token)."""

_GONE = frozenset({"SESSION_NOT_FOUND", "SESSION_EXPIRED", "SESSION_REVOKED"})
_ENDED = frozenset({"SESSION_REVOKED", "TOKEN_REVOKED"})


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken.

    Attributes:
        rule: the check's name.
        text: what happened.
        call: the call that shows it.
    """

    rule: str
    text: str
    call: Call


def stale(calls: Sequence[Call], bound_seconds: float = BOUND_SECONDS) -> Iterator[Violation]:
    """An identity was answered though its revocation had been acknowledged longer ago than the
    bound when the call began."""
    revocations = _Revocations(calls)
    for call in _identified(calls):
        acknowledged = revocations.first_acknowledged(call)
        if acknowledged is not None and call.start > acknowledged + bound_seconds:
            age = call.start - acknowledged
            yield Violation("stale", f"answered {age:.3f} s after its revocation", call)


def foreign(calls: Sequence[Call]) -> Iterator[Violation]:
    """An answer had the identity of a subject that the call bore no token of."""
    for call in _identified(calls):
        if call.answered != call.subject:
            text = f"asked by {call.subject or 'nobody'}, answered as {call.answered}"
            yield Violation("foreign", text, call)


def resurrected(calls: Sequence[Call]) -> Iterator[Violation]:
    """A replica answered what it had refused as revoked: an acknowledged revocation was lost."""
    revocations = _Revocations(calls)
    refused: dict[_Question, float] = {}
    for call in sorted(calls, key=lambda call: call.end):
        if call.is_balanced or revocations.first_acknowledged(call) is None:
            continue
        question = _question(call)
        if call.reason in _ENDED:
            refused.setdefault(question, call.end)
        elif call.answered and call.start > refused.get(question, math.inf):
            yield Violation("resurrected", "answered after it had been refused as revoked", call)


def unread(calls: Sequence[Call]) -> Iterator[Violation]:
    """A client did not read its own write: answered after it had itself been told of the end."""
    by_client: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        by_client[call.via].append(call)
    for own in by_client.values():
        revocations = _Revocations(own)
        for call in _identified(own):
            acknowledged = revocations.first_acknowledged(call)
            if acknowledged is not None and call.start > acknowledged:
                age = call.start - acknowledged
                yield Violation("unread", f"answered {age:.3f} s after its own revocation", call)


def lost(calls: Sequence[Call]) -> Iterator[Violation]:
    """A session whose creation was acknowledged, and that nobody tried to end, was not there."""
    created: dict[str, float] = {}
    ended: dict[str, float] = {}
    for call in calls:
        if call.act is Act.CREATE and call.is_acknowledged:
            created[call.session] = min(call.end, created.get(call.session, call.end))
        elif call.act is Act.REVOKE:
            ended[call.session] = min(call.start, ended.get(call.session, call.start))
    for call in calls:
        if call.act is not Act.RESOLVE or call.reason not in _GONE:
            continue
        is_created = call.session in created and created[call.session] <= call.start
        is_ended = call.session in ended and ended[call.session] <= call.end
        if is_created and not is_ended:
            yield Violation("lost", f"{call.reason}, though nobody had ended it", call)


def causeless(calls: Sequence[Call]) -> Iterator[Violation]:
    """A good token was refused: not revoked by anybody, and on a session of its own subject."""
    last_ended: dict[str, int] = defaultdict(int)
    owners: dict[str, str] = {}
    for call in calls:
        if call.act is Act.NOT_BEFORE:
            last_ended[call.subject] = max(call.token, last_ended[call.subject])
        elif call.act is Act.CREATE and call.is_acknowledged:
            owners[call.session] = call.subject
    for call in calls:
        if call.act in {Act.REVOKE, Act.NOT_BEFORE} or call.failed or call.reason in {"", *_GONE}:
            continue
        is_revoked = call.reason == "TOKEN_REVOKED" and call.token <= last_ended[call.subject]
        is_other = (
            call.reason == "SESSION_SUBJECT_MISMATCH"
            and owners.get(call.session, call.subject) != call.subject
        )
        if not is_revoked and not is_other:
            yield Violation("causeless", f"{call.reason} without a cause", call)


def late(calls: Sequence[Call], slack_seconds: float = SLACK_SECONDS) -> Iterator[Violation]:
    """A call outlived its deadline."""
    for call in calls:
        over = call.seconds - call.deadline_seconds
        if over > slack_seconds:
            yield Violation("late", f"ended {over:.3f} s after its deadline", call)


def unmended(calls: Sequence[Call], within_seconds: float = MEND_SECONDS) -> Iterator[Violation]:
    """A call failed, and no repeat that began soon enough was better off."""
    tasks: dict[int, list[Call]] = defaultdict(list)
    for call in calls:
        tasks[call.task].append(call)
    for repeats in tasks.values():
        first = min(repeats, key=lambda call: call.start)
        in_time = [call for call in repeats if call.start <= first.end + within_seconds]
        if all(call.failed for call in in_time):
            yield Violation("unmended", f"{first.reason}, {len(in_time)} times", first)


def failures(calls: Iterable[Call]) -> Iterator[Violation]:
    """A call failed at all."""
    for call in calls:
        if call.failed:
            yield Violation("failures", call.reason, call)


ALWAYS: tuple[Callable[[Sequence[Call]], Iterator[Violation]], ...] = (
    stale,
    foreign,
    resurrected,
    unread,
    lost,
    late,
)
"""What holds whatever happens to the service."""


def obeyed_after(calls: Sequence[Call]) -> list[float]:
    """How long each replica took to obey each acknowledged revocation that it was asked about.

    Returns:
        Seconds from the acknowledgement to the end of the last call that was still answered with
        the identity, 0 where none was. Only where the first question followed within
        ``ASKED_SECONDS``, and one was refused: else nobody has seen when it was.
    """
    revocations = _Revocations(calls)
    first_asked: dict[_Question, float] = {}
    last_answered: dict[_Question, float] = {}
    refused: set[_Question] = set()
    for call in sorted(calls, key=lambda call: call.start):
        acknowledged = revocations.first_acknowledged(call)
        if call.act is not Act.RESOLVE or call.is_balanced or acknowledged is None:
            continue
        if call.start < acknowledged:
            continue
        question = _question(call)
        first_asked.setdefault(question, call.start - acknowledged)
        if call.answered:
            last_answered[question] = call.end - acknowledged
        elif call.reason in _ENDED:
            refused.add(question)
    seen = (question for question in refused if first_asked[question] <= ASKED_SECONDS)
    return sorted(last_answered.get(question, 0.0) for question in seen)


class _Revocations:
    """When the end of what a call asks about was first acknowledged."""

    def __init__(self, calls: Iterable[Call]) -> None:
        self._sessions: dict[str, float] = {}
        self._not_befores: dict[str, list[Call]] = defaultdict(list)
        for call in calls:
            if call.act is Act.REVOKE and call.is_acknowledged:
                known = self._sessions.get(call.session, call.end)
                self._sessions[call.session] = min(call.end, known)
            elif call.act is Act.NOT_BEFORE and call.is_acknowledged:
                self._not_befores[call.subject].append(call)

    def first_acknowledged(self, call: Call) -> float | None:
        times = [cut.end for cut in self._not_befores[call.subject] if call.token <= cut.token]
        if call.session in self._sessions:
            times.append(self._sessions[call.session])
        return min(times, default=None)


def _question(call: Call) -> _Question:
    return call.via, call.session, call.subject, call.token


def _identified(calls: Iterable[Call]) -> Iterator[Call]:
    return (call for call in calls if call.answered)
