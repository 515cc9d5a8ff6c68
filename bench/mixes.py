"""What a load asks: rows of the decision table (``docs/sessions.md``), by weight."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import count

from authsvc.v1 import auth_pb2 as pb
from bench.calls import Answer
from bench.population import Population

Ask = Callable[[Population, int, int], pb.ResolveSessionRequest]
"""From the population, a session's number and a number that counts up, a request."""

Encode = Callable[[pb.ResolveSessionRequest], bytes]
"""Makes of a resolve what is sent."""

RESOLVE: Encode = pb.ResolveSessionRequest.SerializeToString
"""The resolve itself."""

REUSED = (pb.OUTCOME_REUSED,)
CREATED = (pb.OUTCOME_CREATED,)
REAUTHENTICATED = (pb.OUTCOME_REAUTHENTICATED,)
FIRST_CREATED = (pb.OUTCOME_CREATED, pb.OUTCOME_REUSED)

CREDENTIAL_NAME = "api"
"""What requests ask for that ask for credentials."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request.

    Attributes:
        row: of the decision table.
        ask: makes it.
        outcomes: one of which is answered; none for an error.
        named: whether the answer names the session's owner.
        changes: whether each request has a session of its own: it changes the record, or makes it,
            or is the first about it.
        prepare: what each session needs to have been asked before.
        issued: names of the credentials that the answer has.
    """

    row: str
    ask: Ask
    outcomes: Collection[pb.Outcome.ValueType]
    named: bool = True
    changes: bool = False
    prepare: Ask | None = None
    issued: tuple[str, ...] = ()

    def is_right(self, answer: Answer) -> bool:
        """Whether the answer is what the row says."""
        if answer is None:
            return not self.outcomes
        if isinstance(answer, bytes):
            answer = pb.ResolveSessionResponse.FromString(answer)
        issued = [it.name for it in answer.named_credentials if it.HasField("credentials")]
        return (
            answer.outcome in self.outcomes
            and bool(answer.principal.subject) == self.named
            and issued == [*self.issued]
        )


def _request(
    population: Population, number: int, token: str, *, create: bool = False, known: bool = True
) -> pb.ResolveSessionRequest:
    return pb.ResolveSessionRequest(
        session_id=population.session_id(number) if known else "",
        token=token,
        resource=population.resource,
        create=create,
    )


def _first(population: Population, number: int, _: int) -> pb.ResolveSessionRequest:
    return _request(population, number, population.first_token(number))


def _without(population: Population, number: int, _: int) -> pb.ResolveSessionRequest:
    request = _first(population, number, 0)
    request.credential_selection.SetInParent()
    return request


def _bearer(population: Population, number: int, _: int) -> pb.ResolveSessionRequest:
    request = _first(population, number, 0)
    request.credential_selection.requests.add(name=CREDENTIAL_NAME)
    return request


def _created(population: Population, number: int, _: int) -> pb.ResolveSessionRequest:
    return _request(population, number, population.first_token(number), create=True)


def _anonymous(population: Population, number: int, _: int) -> pb.ResolveSessionRequest:
    return _request(population, number, "", create=True)


KINDS: Mapping[str, Kind] = {
    "hot": Kind("8", _first, REUSED),
    "without": Kind("8", _without, REUSED),
    "bearer": Kind("8", _bearer, REUSED, issued=(CREDENTIAL_NAME,)),
    "seed": Kind("2", _created, FIRST_CREATED, changes=True),
    "each": Kind("8", _first, REUSED, changes=True),
    "changing": Kind("8 or 11", _first, REUSED),
    "earlier": Kind("11", lambda p, n, _: _request(p, n, p.earlier_token(n)), REUSED),
    "refresh": Kind(
        "10",
        lambda p, n, order: _request(p, n, p.later_token(n, order)),
        REAUTHENTICATED,
        changes=True,
    ),
    "upgrade": Kind("6", _first, REAUTHENTICATED, changes=True, prepare=_anonymous),
    "create": Kind("2", _created, CREATED, changes=True),
    "anonymous": Kind("1", _anonymous, CREATED, named=False, changes=True),
    "refused": Kind("7", lambda p, n, _: _request(p, n, p.forged_token(n)), ()),
    "tokenless": Kind("13", lambda p, n, _: _request(p, n, ""), REUSED, named=False),
    "principal": Kind(
        "17", lambda p, n, _: _request(p, n, p.first_token(n), known=False), FIRST_CREATED
    ),
}

MAKES_SESSIONS = ("upgrade", "create", "anonymous")
"""Kinds that are about sessions that are not stored yet."""

NEW_SESSIONS = 1_000_000
"""How many sessions of each of these kinds one process may make."""


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a population one process of several has, so that none meets another's.

    Attributes:
        index: which process, from 0.
        of: how many there are.
    """

    index: int
    of: int


class Requests:
    """Makes the requests of one process, encoded, before any clock runs.

    Sessions whose requests change nothing are picked at random. Those of ``refresh`` come from the
    lower half of the part and go round; the others from the upper half, so that a repeated token
    stays row 8 and does not become row 11.

    Args:
        population: who there is.
        part: which of it is this process's.
    """

    def __init__(self, population: Population, part: Part) -> None:
        self._population = population
        self._part = part
        self._random = random.Random(part.index)  # noqa: S311 - a sample
        mine = population.sessions // part.of
        self._changing = max(1, mine // 2)
        self._steady = max(1, mine - self._changing)
        first = population.sessions + NEW_SESSIONS * len(MAKES_SESSIONS) * (
            10 * part.of + part.index
        )
        self._new = {
            name: count(first + NEW_SESSIONS * place) for place, name in enumerate(MAKES_SESSIONS)
        }
        self._order = count()
        self._once = count()
        self._kept: dict[tuple[str, int, Encode], bytes] = {}

    def take(
        self, mix: Mapping[str, float], number: int, spread: int, encode: Encode = RESOLVE
    ) -> tuple[list[tuple[str, bytes]], list[bytes]]:
        """Requests in a random order.

        Args:
            mix: weights of the kinds in ``KINDS``.
            number: how many.
            spread: how many sessions those are about whose requests change nothing.
            encode: makes of each resolve what is sent.

        Returns:
            The requests, with the kind of each, and those that have to be answered before them.
        """
        names = self._random.choices(list(mix), list(mix.values()), k=number)
        requests, before = [], []
        for name in names:
            kind, session, order = KINDS[name], self._session(name, spread), 0
            if name == "refresh":
                order = next(self._order)
                session = self._mine(order % self._changing)
            elif name == "seed":
                session = self._mine(next(self._once))
            elif name == "changing":
                session = self._mine(self._random.randrange(self._changing))
            elif name == "each":
                session = self._mine(self._changing + next(self._once) % self._steady)
            if kind.prepare is not None:
                asked = kind.prepare(self._population, session, order)
                before.append(encode(asked))
            requests.append((name, self._encoded(name, session, order, encode)))
        return requests, before

    def _session(self, name: str, spread: int) -> int:
        if name in MAKES_SESSIONS:
            return next(self._new[name])
        return self._mine(self._changing + self._random.randrange(min(spread, self._steady)))

    def _mine(self, place: int) -> int:
        """The session's number: parts interleave, so that each has all subjects."""
        return (place * self._part.of + self._part.index) % self._population.sessions

    def _encoded(self, name: str, session: int, order: int, encode: Encode) -> bytes:
        kind = KINDS[name]
        if kind.changes or name == "refused":
            return encode(kind.ask(self._population, session, order))
        key = (name, session, encode)
        if key not in self._kept:
            self._kept[key] = encode(kind.ask(self._population, session, order))
        return self._kept[key]
