"""The calls of a run and their results, which the checks read."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

LOAD = "load"
"""The prefix of ``Call.via`` of clients that balance over all replicas, as MCP servers do."""


class Act(Enum):
    """The kind of a call."""

    CREATE = "create"
    """Create a session."""

    RESOLVE = "resolve"
    """Resolve a token on an existing session."""

    REVOKE = "revoke"
    """Revoke a session."""

    NOT_BEFORE = "not before"
    """Revoke all tokens of a subject."""

    SIGNAL = "signal"
    """Report, as an identity provider, that a subject's account was disabled: likewise."""


OF_SUBJECTS = frozenset({Act.NOT_BEFORE, Act.SIGNAL})
"""The kinds that revoke all tokens of a subject so far."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call and its result.

    Attributes:
        act: its kind.
        via: the client: one that balances (``load-1``), or the client of the replica of this name.
        start: when it began, in monotonic seconds of the harness.
        end: when it ended, likewise.
        deadline_seconds: its deadline, from its start.
        session: the session's id; empty for a principal session, NOT_BEFORE and SIGNAL.
        subject: the subject of its token, or whose tokens it revoked; empty without.
        token: which token of the subject, counted in the order of issue; for NOT_BEFORE and
            SIGNAL the last one that it revoked.
        answered: the subject in the response; empty without an identity.
        reason: of the error, by its stable name; empty if there was none.
        task: the same number for a call and its retries.
    """

    act: Act
    via: str
    start: float
    end: float
    deadline_seconds: float
    session: str = ""
    subject: str = ""
    token: int = 0
    answered: str = ""
    reason: str = ""
    task: int = 0

    @property
    def seconds(self) -> float:
        """Its duration."""
        return self.end - self.start

    @property
    def is_balanced(self) -> bool:
        """Whether a client made it that balances over all replicas."""
        return self.via.startswith(LOAD)

    @property
    def is_acknowledged(self) -> bool:
        """Whether it succeeded."""
        return not self.reason

    @property
    def failed(self) -> bool:
        """Whether it ended without a decision; see ``FAILURES``."""
        return self.reason in FAILURES


FAILURES = frozenset(
    {
        "SERVICE_UNAVAILABLE",
        "CONFLICT",
        "STORE_UNAVAILABLE",
        "KEYS_UNAVAILABLE",
        "CREDENTIALS_UNAVAILABLE",
        "OVERLOADED",
        "SESSION_LIMIT",
    }
)
"""Reasons for which the service could not decide. The others are about the session or token."""


@dataclass
class History:
    """All calls of a run, in the order in which they ended.

    Attributes:
        calls: the calls.
        marks: times of events of the run, by name.
    """

    calls: list[Call] = field(default_factory=list)
    marks: dict[str, float] = field(default_factory=dict)
    _tasks: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def new_task(self) -> int:
        """A number for a call and its retries."""
        return next(self._tasks)

    def of_load(self) -> Iterable[Call]:
        """The calls of clients that balance."""
        return (call for call in self.calls if call.is_balanced)
