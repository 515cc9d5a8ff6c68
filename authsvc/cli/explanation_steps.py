"""The steps of an explanation, and the explanation itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Actor, Principal


class StepOutcome(StrEnum):
    """The result of a check."""

    OK = "ok"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Step:
    """One check.

    Attributes:
        name: what is checked.
        outcome: its result.
        text: what was found. May quote claims of the token, never the token.
        reason: why it fails; None unless it does.
        setting: the setting that would mend it; empty where none would.
    """

    name: str
    outcome: StepOutcome
    text: str
    reason: Reason | None = None
    setting: str = ""


@dataclass(frozen=True, slots=True)
class Mapped:
    """A principal as the claims of a token describe it, accepted or not.

    Attributes:
        principal: the principal.
        sources: by part of it, the claims that the part comes from.
        session: the provider's session, by the first characters of its digest; empty for none.
    """

    principal: Principal
    sources: Mapping[str, tuple[str, ...]]
    session: str = ""

    def parts(self) -> Iterator[tuple[str, object, tuple[str, ...]]]:
        """Each part: its name, its value, and the claims that it comes from."""
        for name, claims in self.sources.items():
            value = self.session or None if name == "session" else getattr(self.principal, name)
            yield name, _shown(value), claims


def _shown(value: str | tuple[str, ...] | Actor | None) -> object:
    """A part of a principal as JSON has it: an actor is the claim."""
    if isinstance(value, Actor):
        return value.claim()
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True, slots=True)
class Explanation:
    """All checks of a token.

    Attributes:
        steps: in the verifier's order.
        mapped: the principal that its claims describe; None if they describe none.
    """

    steps: tuple[Step, ...]
    mapped: Mapped | None = None

    @property
    def is_unknown(self) -> bool:
        """Whether no check failed, and not all were made."""
        return self.principal is None and self.reason is None

    @property
    def principal(self) -> Principal | None:
        """The token's principal; None unless it is accepted."""
        is_accepted = all(step.outcome is StepOutcome.OK for step in self.steps)
        return self.mapped.principal if self.mapped and is_accepted else None

    @property
    def reason(self) -> Reason | None:
        """Why the token is rejected; None when it is accepted, or that is not known."""
        return None if self._verdict is None else self._verdict.reason

    @property
    def setting(self) -> str:
        """The setting that would have it accepted, as far as that check goes; empty where none
        would."""
        return "" if self._verdict is None else self._verdict.setting

    @property
    def _verdict(self) -> Step | None:
        return next((step for step in self.steps if step.reason is not None), None)


@dataclass(slots=True)
class Steps:
    """The steps that are done, in order."""

    done: list[Step] = field(default_factory=list)

    @property
    def last_failed(self) -> bool:
        """Whether the last one failed."""
        return self.done[-1].outcome is StepOutcome.FAIL

    def step(self, name: str, table: str = "") -> StepUnderWay:
        """Begin a step, for use with ``with``.

        Args:
            name: what is checked.
            table: the table of the configuration that the settings of the check are in.
        """
        return StepUnderWay(self, name, table)

    def skip(self, *names: str, why: str = "a check before it failed") -> None:
        """Steps that are not possible, because of what failed before or what is not known."""
        text = f"not checked: {why}"
        self.done += [Step(name, StepOutcome.SKIPPED, text) for name in names]


@dataclass(slots=True)
class StepUnderWay:
    """A step under way: an ``AuthError`` within it is its failure."""

    steps: Steps
    name: str
    table: str = ""
    text: str = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if exc is None:
            self.steps.done.append(Step(self.name, StepOutcome.OK, self.text))
            return False
        if not isinstance(exc, AuthError):
            return False
        text = ": ".join(filter(None, (self.text, exc.detail))) or exc.reason.message
        if self.table:
            exc.in_table(self.table)
        step = Step(self.name, StepOutcome.FAIL, text, exc.reason, exc.setting)
        self.steps.done.append(step)
        return True
