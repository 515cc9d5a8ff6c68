"""The guarantees: each check is a pure function from a history to its violations."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from chaos.history import OF_SUBJECTS, Act, Call

BOUND_SECONDS = 1.0
"""Every replica obeys an acknowledged revocation within this time."""

SLACK_SECONDS = 0.25
"""By how much a call may exceed its deadline: clients and servers of a run share one machine."""

MEND_SECONDS = 1.0
"""A failure is mended if a retry that begins within this time succeeds."""

ASKED_SECONDS = 0.1
"""A replica's latency is measured only if it was first asked within this time."""

_Question = tuple[str, str, str, int]
"""(replica, session, subject, token)."""

_GONE = frozenset({"SESSION_NOT_FOUND", "SESSION_EXPIRED", "SESSION_REVOKED"})
_ENDED = frozenset({"SESSION_REVOKED", "TOKEN_REVOKED"})


@dataclass(frozen=True, slots=True)
class Violation:
    """A violated guarantee.

    Attributes:
        rule: the check's name.
        text: what happened.
        call: the call that shows it.
    """

    rule: str
    text: str
    call: Call


def stale(calls: Sequence[Call], bound_seconds: float = BOUND_SECONDS) -> Iterator[Violation]:
    """A call was answered with an identity whose revocation had been acknowledged earlier than the
    bound before the call began."""
    revocations = _Revocations(calls)
    for call in _identified(calls):
        acknowledged = revocations.first_acknowledged(call)
        if acknowledged is not None and call.start > acknowledged + bound_seconds:
            age = call.start - acknowledged
            yield Violation("stale", f"answered {age:.3f} s after its revocation", call)


def foreign(calls: Sequence[Call]) -> Iterator[Violation]:
    """An answer had the identity of a subject other than the token's."""
    for call in _identified(calls):
        if call.answered != call.subject:
            text = f"requested by {call.subject or 'nobody'}, answered as {call.answered}"
            yield Violation("foreign", text, call)


def resurrected(calls: Sequence[Call]) -> Iterator[Violation]:
    """A replica accepted what it had rejected as revoked: an acknowledged revocation was lost."""
    revocations = _Revocations(calls)
    rejected: dict[_Question, float] = {}
    for call in sorted(calls, key=lambda call: call.end):
        if call.is_balanced or revocations.first_acknowledged(call) is None:
            continue
        question = _question(call)
        if call.reason in _ENDED:
            rejected.setdefault(question, call.end)
        elif call.answered and call.start > rejected.get(question, math.inf):
            yield Violation("resurrected", "answered after it had been rejected as revoked", call)


def unread(calls: Sequence[Call]) -> Iterator[Violation]:
    """A client did not read its own write: its revocation was acknowledged, and then ignored."""
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
    """A session was not found though its creation was acknowledged and no call had ended it."""
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
            yield Violation("lost", f"{call.reason}, though no call had ended it", call)


def causeless(calls: Sequence[Call]) -> Iterator[Violation]:
    """A valid token was rejected: not revoked, and on a session of its own subject."""
    last_ended: dict[str, int] = defaultdict(int)
    owners: dict[str, str] = {}
    for call in calls:
        if call.act in OF_SUBJECTS:
            last_ended[call.subject] = max(call.token, last_ended[call.subject])
        elif call.act is Act.CREATE and call.is_acknowledged:
            owners[call.session] = call.subject
    for call in calls:
        if call.act in {Act.REVOKE, *OF_SUBJECTS} or call.failed or call.reason in {"", *_GONE}:
            continue
        is_revoked = call.reason == "TOKEN_REVOKED" and call.token <= last_ended[call.subject]
        is_other = (
            call.reason == "SESSION_SUBJECT_MISMATCH"
            and owners.get(call.session, call.subject) != call.subject
        )
        if not is_revoked and not is_other:
            yield Violation("causeless", f"{call.reason} without a cause", call)


def late(calls: Sequence[Call], slack_seconds: float = SLACK_SECONDS) -> Iterator[Violation]:
    """A call exceeded its deadline."""
    for call in calls:
        over = call.seconds - call.deadline_seconds
        if over > slack_seconds:
            yield Violation("late", f"ended {over:.3f} s after its deadline", call)


def unmended(calls: Sequence[Call], within_seconds: float = MEND_SECONDS) -> Iterator[Violation]:
    """A call failed, and so did every retry that began within ``within_seconds``."""
    tasks: dict[int, list[Call]] = defaultdict(list)
    for call in calls:
        tasks[call.task].append(call)
    for repeats in tasks.values():
        first = min(repeats, key=lambda call: call.start)
        in_time = [call for call in repeats if call.start <= first.end + within_seconds]
        if all(call.failed for call in in_time):
            yield Violation("unmended", f"{first.reason}, {len(in_time)} times", first)


def unacknowledged(calls: Sequence[Call]) -> Iterator[Violation]:
    """A signal was rejected, or was not acknowledged however often its sender repeated it."""
    repeats: dict[int, list[Call]] = defaultdict(list)
    for call in calls:
        if call.act is Act.SIGNAL:
            repeats[call.task].append(call)
    for sent in repeats.values():
        last = max(sent, key=lambda call: call.end)
        rejected = next((call for call in sent if call.reason and not call.failed), None)
        if rejected is not None:
            yield Violation("unacknowledged", f"{rejected.reason}, a valid signal", rejected)
        elif not last.is_acknowledged:
            yield Violation("unacknowledged", f"{last.reason}, {len(sent)} times", last)


def failures(calls: Iterable[Call]) -> Iterator[Violation]:
    """A call failed."""
    for call in calls:
        if call.failed:
            yield Violation("failures", call.reason, call)


ALWAYS: tuple[Callable[[Sequence[Call]], Iterator[Violation]], ...] = (
    stale,
    foreign,
    resurrected,
    unread,
    lost,
    unacknowledged,
    late,
)
"""The checks that hold during every fault."""


def obeyed_after(calls: Sequence[Call]) -> list[float]:
    """Latency of each acknowledged revocation at each replica that was asked.

    Returns:
        Seconds from the acknowledgement to the end of the last call that was still answered with
        the identity; 0 if there was none. Only of replicas that were first asked within
        ``ASKED_SECONDS`` and have rejected a call: the others were not measured.
    """
    revocations = _Revocations(calls)
    first_asked: dict[_Question, float] = {}
    last_answered: dict[_Question, float] = {}
    rejected: set[_Question] = set()
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
            rejected.add(question)
    seen = (question for question in rejected if first_asked[question] <= ASKED_SECONDS)
    return sorted(last_answered.get(question, 0.0) for question in seen)


class _Revocations:
    """When the revocation of a call's session or token was first acknowledged."""

    def __init__(self, calls: Iterable[Call]) -> None:
        self._sessions: dict[str, float] = {}
        self._not_befores: dict[str, list[Call]] = defaultdict(list)
        for call in calls:
            if call.act is Act.REVOKE and call.is_acknowledged:
                known = self._sessions.get(call.session, call.end)
                self._sessions[call.session] = min(call.end, known)
            elif call.act in OF_SUBJECTS and call.is_acknowledged:
                self._not_befores[call.subject].append(call)

    def first_acknowledged(self, call: Call) -> float | None:
        times = [each.end for each in self._not_befores[call.subject] if call.token <= each.token]
        if call.session in self._sessions:
            times.append(self._sessions[call.session])
        return min(times, default=None)


def _question(call: Call) -> _Question:
    return call.via, call.session, call.subject, call.token


def _identified(calls: Iterable[Call]) -> Iterator[Call]:
    return (call for call in calls if call.answered)
