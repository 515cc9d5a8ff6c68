"""What was asked and answered: the record of a run that the checks read. Knows nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

LOAD = "load"
"""What ``Call.via`` begins with for a client that balances over all replicas, as MCP servers do."""


class Act(Enum):
    """What a call asked for."""

    CREATE = "create"
    """A session under a new id."""

    RESOLVE = "resolve"
    """Who somebody is, on a session that is there."""

    REVOKE = "revoke"
    """The end of a session."""

    NOT_BEFORE = "not before"
    """The end of all tokens that a subject has."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call, from when it was made to when its answer was there.

    Attributes:
        act: what it asked for.
        via: the client that asked: one that balances (``load-1``), or one that only ever asks the
            replica of this name.
        start: monotonic seconds of the process that asked; as all times here.
        end: when it returned.
        deadline_seconds: how long it was allowed to take.
        session: the session's id; empty for a principal session and for NOT_BEFORE.
        subject: whose token it bore, or whose tokens it ended; empty without.
        token: which token of the subject, counted in the order of issue; for NOT_BEFORE the last
            one that it ended.
        answered: the subject in the answer; empty without an identity.
        reason: of the refusal, by its stable name; empty when there was none.
        task: the same for a call and those that repeated it.
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
        """How long it took."""
        return self.end - self.start

    @property
    def is_balanced(self) -> bool:
        """Whether any replica may have answered."""
        return self.via.startswith(LOAD)

    @property
    def is_acknowledged(self) -> bool:
        """Whether it did what it asked for."""
        return not self.reason

    @property
    def failed(self) -> bool:
        """Whether nobody could say: neither an answer nor a refusal that means something."""
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
"""Reasons that tell of the service's state, not of the session's or the token's."""


@dataclass
class History:
    """All calls of a run, in the order in which they ended.

    Attributes:
        calls: the calls.
        marks: when what happened to the service, by name.
    """

    calls: list[Call] = field(default_factory=list)
    marks: dict[str, float] = field(default_factory=dict)
    _tasks: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def new_task(self) -> int:
        """A number for a call and those that will repeat it."""
        return next(self._tasks)

    def of_load(self) -> Iterable[Call]:
        """The calls of clients that balance."""
        return (call for call in self.calls if call.is_balanced)
