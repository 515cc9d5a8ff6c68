"""Each guarantee has a history that violates it, and a similar one that does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from chaos import checks
from chaos.checks import Violation
from chaos.history import LOAD, Act, Call

Check = Callable[[Sequence[Call]], Iterator[Violation]]


def created(session: str, end: float, subject: str = "alice") -> Call:
    return Call(Act.CREATE, LOAD, end - 0.1, end, 2, session, subject, 1, subject)


def revoked(session: str, end: float, reason: str = "") -> Call:
    return Call(Act.REVOKE, LOAD, end - 0.1, end, 2, session, reason=reason)


def set_not_before(subject: str, token: int, end: float, reason: str = "") -> Call:
    return Call(
        Act.NOT_BEFORE, LOAD, end - 0.1, end, 2, subject=subject, token=token, reason=reason
    )


def signalled(subject: str, token: int, end: float, reason: str = "", task: int = 1) -> Call:
    return Call(
        *(Act.SIGNAL, "replica-0", end - 0.1, end, 12),
        subject=subject,
        token=token,
        reason=reason,
        task=task,
    )


def resolved(
    start: float,
    *,
    session: str = "s",
    subject: str = "alice",
    token: int = 1,
    answered: str | None = None,
    reason: str = "",
    via: str = "replica-0",
    seconds: float = 0.01,
    task: int = 0,
) -> Call:
    answered = ("" if reason else subject) if answered is None else answered
    end = start + seconds
    return Call(Act.RESOLVE, via, start, end, 2, session, subject, token, answered, reason, task)


GONE = "SESSION_REVOKED"
CUT = "TOKEN_REVOKED"
AWAY = "STORE_UNAVAILABLE"

BROKEN: dict[str, tuple[Check, list[Call]]] = {
    "an answer after the bound": (checks.stale, [revoked("s", 10), resolved(11.01)]),
    "an answer long after": (checks.stale, [revoked("s", 10), resolved(99)]),
    "any of two acknowledgements counts": (
        checks.stale,
        [revoked("s", 10), revoked("s", 50), resolved(12)],
    ),
    "a revoked token": (checks.stale, [set_not_before("alice", 3, 10), resolved(11.5, token=3)]),
    "a not-before counts on every session": (
        checks.stale,
        [set_not_before("alice", 1, 10), resolved(11.5, session="")],
    ),
    "another subject": (checks.foreign, [resolved(1, answered="bob")]),
    "an identity without a token": (checks.foreign, [resolved(1, subject="", answered="bob")]),
    "a revocation forgotten": (
        checks.resurrected,
        [revoked("s", 10), resolved(10.1, reason=GONE), resolved(10.2)],
    ),
    "a not-before forgotten": (
        checks.resurrected,
        [set_not_before("alice", 1, 10), resolved(10.1, reason=CUT), resolved(10.2)],
    ),
    "its own revocation": (
        checks.unread,
        [revoked("s", 10), resolved(10.001, via=LOAD)],
    ),
    "a session that went": (
        checks.lost,
        [created("s", 1), resolved(2, reason="SESSION_NOT_FOUND")],
    ),
    "a session ended only later": (
        checks.lost,
        [created("s", 1), resolved(2, reason=GONE), revoked("s", 10)],
    ),
    "a good token": (checks.causeless, [resolved(1, reason="TOKEN_EXPIRED")]),
    "a token issued after the not-before": (
        checks.causeless,
        [set_not_before("alice", 1, 1), resolved(2, token=2, reason=CUT)],
    ),
    "the owner": (
        checks.causeless,
        [created("s", 1), resolved(2, reason="SESSION_SUBJECT_MISMATCH")],
    ),
    "too long": (checks.late, [resolved(1, seconds=2.3)]),
    "too long, and failed": (checks.late, [resolved(1, seconds=2.3, reason=AWAY)]),
    "never repeated": (checks.unmended, [resolved(1, reason=AWAY, task=1)]),
    "repeated too late": (
        checks.unmended,
        [resolved(1, reason=AWAY, task=1), resolved(2.1, task=1)],
    ),
    "repeated in vain": (
        checks.unmended,
        [resolved(1, reason=AWAY, task=1), resolved(1.5, reason=AWAY, task=1)],
    ),
    "mended by another task": (
        checks.unmended,
        [resolved(1, reason=AWAY, task=1), resolved(1.5, task=2)],
    ),
    "a signal lost": (checks.stale, [signalled("alice", 1, 10), resolved(11.5)]),
    "a signal repeated with a second effect": (
        checks.causeless,
        [signalled("alice", 1, 1), signalled("alice", 1, 2), resolved(3, token=2, reason=CUT)],
    ),
    "a signal never acknowledged": (
        checks.unacknowledged,
        [signalled("alice", 1, 1, AWAY), signalled("alice", 1, 2, AWAY)],
    ),
    "a signal acknowledged, another not": (
        checks.unacknowledged,
        [signalled("alice", 1, 1, AWAY), signalled("bob", 1, 2, task=2)],
    ),
    "a signal rejected": (
        checks.unacknowledged,
        [signalled("alice", 1, 1, "TOKEN_MALFORMED"), signalled("alice", 1, 2)],
    ),
    "a failure": (checks.failures, [resolved(1, reason=AWAY)]),
    "a call turned away": (checks.failures, [resolved(1, reason="OVERLOADED")]),
}

KEPT: dict[str, tuple[Check, list[Call]]] = {
    "within the bound": (checks.stale, [revoked("s", 10), resolved(10.99)]),
    "begun within the bound": (checks.stale, [revoked("s", 10), resolved(10.9, seconds=5)]),
    "never acknowledged": (checks.stale, [revoked("s", 10, AWAY), resolved(20)]),
    "of another session": (checks.stale, [revoked("other", 10), resolved(20)]),
    "refused": (checks.stale, [revoked("s", 10), resolved(20, reason=GONE)]),
    "a newer token": (checks.stale, [set_not_before("alice", 1, 10), resolved(20, token=2)]),
    "another's not-before": (checks.stale, [set_not_before("bob", 9, 10), resolved(20)]),
    "a not-before not acknowledged": (
        checks.stale,
        [set_not_before("alice", 9, 10, AWAY), resolved(20)],
    ),
    "the own subject": (checks.foreign, [resolved(1)]),
    "nobody": (checks.foreign, [resolved(1, subject="")]),
    "a race of two replicas": (
        checks.resurrected,
        [revoked("s", 10), resolved(10.1, reason=GONE), resolved(10.105)],
    ),
    "another replica within the bound": (
        checks.resurrected,
        [revoked("s", 10), resolved(10.1, reason=GONE), resolved(10.2, via="replica-1")],
    ),
    "another's revocation": (checks.unread, [revoked("s", 10), resolved(10.1)]),
    "asked while it was revoked": (checks.unread, [revoked("s", 10), resolved(9.95, via=LOAD)]),
    "refused for good": (
        checks.resurrected,
        [revoked("s", 10), resolved(10.1, reason=GONE), resolved(10.2, reason=GONE)],
    ),
    "in doubt": (
        checks.resurrected,
        [revoked("s", 10, AWAY), resolved(10.1, reason=GONE), resolved(10.2)],
    ),
    "ended": (checks.lost, [created("s", 1), revoked("s", 2), resolved(3, reason=GONE)]),
    "perhaps ended": (
        checks.lost,
        [created("s", 1), revoked("s", 2, AWAY), resolved(3, reason=GONE)],
    ),
    "never acknowledged to be there": (checks.lost, [resolved(2, reason="SESSION_NOT_FOUND")]),
    "asked before it was there": (
        checks.lost,
        [created("s", 10), resolved(2, reason="SESSION_NOT_FOUND")],
    ),
    "not before": (checks.causeless, [set_not_before("alice", 1, 1), resolved(2, reason=CUT)]),
    "not the owner": (
        checks.causeless,
        [created("s", 1), resolved(2, subject="bob", reason="SESSION_SUBJECT_MISMATCH")],
    ),
    "nobody could say": (checks.causeless, [resolved(1, reason=AWAY)]),
    "within the slack": (checks.late, [resolved(1, seconds=2.2)]),
    "mended": (checks.unmended, [resolved(1, reason=AWAY, task=1), resolved(1.9, task=1)]),
    "a refusal mends": (
        checks.unmended,
        [resolved(1, reason=AWAY, task=1), resolved(1.9, reason=GONE, task=1)],
    ),
    "nothing to mend": (checks.unmended, [resolved(1, task=1), resolved(2, reason=GONE, task=2)]),
    "a signal repeated": (
        checks.unacknowledged,
        [signalled("alice", 1, 1, AWAY), signalled("alice", 1, 2)],
    ),
    "a signal not acknowledged": (checks.stale, [signalled("alice", 1, 10, AWAY), resolved(20)]),
    "perhaps by a signal": (
        checks.causeless,
        [signalled("alice", 1, 1, AWAY), resolved(2, reason=CUT)],
    ),
    "a refusal is no failure": (checks.failures, [resolved(1, reason=GONE)]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_violation_is_found(name: str) -> None:
    check, calls = BROKEN[name]
    (found,) = check(calls)
    assert found.rule == check.__name__
    assert found.call in calls


@pytest.mark.parametrize("name", KEPT)
def test_a_similar_history_has_no_violation(name: str) -> None:
    check, calls = KEPT[name]
    assert list(check(calls)) == []


def test_each_check_has_a_history() -> None:
    assert {check for check, _ in BROKEN.values()} >= {
        *checks.ALWAYS,
        checks.causeless,
        checks.unmended,
        checks.failures,
    }


def test_the_latency_of_each_replica() -> None:
    calls = [
        revoked("s", 10),
        resolved(10.0),
        resolved(10.03),
        resolved(10.04, reason=GONE),
        resolved(10.05, reason=GONE),
        resolved(10.0, via="replica-1", reason=AWAY),
        resolved(10.1, via="replica-1", reason=GONE, seconds=4),
        resolved(10.0, via="replica-2", reason=AWAY),
        resolved(10.0, via=LOAD, reason=GONE),
        resolved(9.9, via="replica-3", reason=GONE),
        resolved(15, via="replica-4", reason=GONE),
        set_not_before("bob", 2, 20),
        resolved(20.0, subject="bob", session="t"),
        resolved(20.2, subject="bob", session="t", reason=CUT),
    ]
    assert checks.obeyed_after(calls) == pytest.approx([0.0, 0.01, 0.04])
