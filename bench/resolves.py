"""What a resolve costs beside a raw echo of the same bytes, and a lookup among many sessions."""

from __future__ import annotations

import json
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from grpc import aio

from authsvc.stores.sqlite import SqliteStore
from authsvc.v1 import auth_pb2 as pb
from bench import echo, load
from bench.figures import MICROS, Sample, Summary, table
from bench.population import ISSUER, RESOURCE, IdentityProvider, Population, fill
from bench.processes import ServerProcess, authsvc_server, echo_server, place

RESOLVE = "/authsvc.v1.AuthService/ResolveSession"

ECHO = "echo of row 8's bytes"

IN_FLIGHT = 32

LOOKUPS = 5_000
"""Lookups in a sample."""


class WrongAnswerError(Exception):
    """A server was fast, and wrong: its figures count for nothing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure.

    Attributes:
        rounds: samples of each side, after a round that warms up.
        calls: calls in a sample.
        few: sessions in the small store.
        many: sessions in the large store; more than ``calls``.
        placement: see ``bench.processes.place``.
    """

    rounds: int
    calls: int
    few: int
    many: int
    placement: str


@dataclass(frozen=True, slots=True)
class Side:
    """One line of the comparison.

    Attributes:
        server: who is called.
        method: the RPC.
        requests: makes the requests of a sample, before the clock runs.
        check: judges the answers of a sample, after the clock has stopped.
    """

    server: ServerProcess
    method: str
    requests: Callable[[], list[bytes]]
    check: Callable[[Sequence[bytes]], None]


@dataclass(frozen=True, slots=True)
class Results:
    """Every sample, in the order in which they were taken.

    Attributes:
        resolves: by side.
        lookups: CPU µs a lookup, by number of sessions.
    """

    resolves: dict[str, list[Sample]]
    lookups: dict[int, list[float]]


async def compare(plan: Plan, folder: Path, step: Callable[[str], None]) -> Results:
    """Run it all.

    Args:
        plan: how much.
        folder: an empty folder for databases, configuration and logs.
        step: told what comes next.

    Raises:
        WrongAnswerError: an answer was not what its row of the decision table says.
        bench.processes.ServerError: a server did not start.
    """
    idp = IdentityProvider()
    (folder / "secret").write_text(idp.secret, encoding="utf-8")
    step(f"storing {plan.few:,} and {plan.many:,} sessions")
    few = await fill(folder / "few.db", idp, sessions=plan.few, changing=0)
    many = await fill(folder / "many.db", idp, sessions=plan.many, changing=plan.calls)
    async with _sides(few, many, idp, plan.calls) as sides:
        results = Results({name: [] for name in sides}, {plan.few: [], plan.many: []})
        for number in range(plan.rounds + 1):
            step(f"round {number} of {plan.rounds}" if number else "warming up")
            # The other way round every other time, so that no side always follows the same one.
            for name in list(sides) if number % 2 else reversed(sides):
                place(sides[name].server, plan.placement)
                sample = await _sample(sides[name])
                if number:
                    results.resolves[name].append(sample)
            for population in (few, many) if number % 2 else (many, few):
                micros = await _lookup_micros(population)
                if number:
                    results.lookups[len(population.session_ids)].append(micros)
    return results


@asynccontextmanager
async def _sides(
    few: Population, many: Population, idp: IdentityProvider, calls: int
) -> AsyncIterator[dict[str, Side]]:
    """The servers, running, and what each is asked."""
    async with (
        authsvc_server(_config(few), few.path.with_suffix(".log")) as small,
        authsvc_server(_config(many), many.path.with_suffix(".log")) as large,
    ):
        for server, population in ((small, few), (large, many)):
            answers = await _answers(server, RESOLVE, population.every_token_requests())
            _check(answers, pb.OUTCOME_REUSED, population)
        request_bytes, response_bytes = len(many.same_token_requests(1)[0]), len(answers[0])
        async with echo_server(
            echo.Model.AIO_UVLOOP, request_bytes=request_bytes, response_bytes=response_bytes
        ) as echoing:
            yield {
                ECHO: Side(
                    echoing,
                    echo.UNARY,
                    lambda: many.same_token_requests(calls),
                    lambda answers: _check_echo(answers, response_bytes),
                ),
                _row_8(len(few.session_ids)): Side(
                    small,
                    RESOLVE,
                    lambda: few.same_token_requests(calls),
                    lambda answers: _check(answers, pb.OUTCOME_REUSED, few),
                ),
                _row_8(len(many.session_ids)): Side(
                    large,
                    RESOLVE,
                    lambda: many.same_token_requests(calls),
                    lambda answers: _check(answers, pb.OUTCOME_REUSED, many),
                ),
                f"row 10, {len(many.session_ids):,} sessions": Side(
                    large,
                    RESOLVE,
                    lambda: many.new_token_requests(idp),
                    lambda answers: _check(answers, pb.OUTCOME_REAUTHENTICATED, many),
                ),
            }


def _config(population: Population) -> Path:
    """The configuration of an authsvc on that store. A JSON string is a TOML string, too."""
    folder = population.path.parent
    path = population.path.with_suffix(".toml")
    path.write_text(
        f"""\
listen = "127.0.0.1:0"
resources = [{json.dumps(RESOURCE)}]
log_format = "json"

[store]
kind = "sqlite"
path = {json.dumps(str(population.path))}

[[issuers]]
issuer = {json.dumps(ISSUER)}
secret_file = {json.dumps(str(folder / "secret"))}
algorithms = ["HS256"]
profile = "standard"
""",
        encoding="utf-8",
    )
    return path


async def _sample(side: Side) -> Sample:
    requests, answers = side.requests(), list[bytes]()
    async with aio.insecure_channel(side.server.address) as channel:
        await channel.channel_ready()
        calls = load.unary_calls(
            channel, side.method, requests, in_flight=IN_FLIGHT, received=answers.append
        )
        sample = await load.measured(side.server, calls, lambda: len(answers))
    side.check(answers)
    return sample


async def _answers(server: ServerProcess, method: str, requests: list[bytes]) -> list[bytes]:
    answers: list[bytes] = []
    async with aio.insecure_channel(server.address) as channel:
        await load.unary_calls(
            channel, method, requests, in_flight=IN_FLIGHT, received=answers.append
        )
    return answers


def _check(answers: Sequence[bytes], outcome: pb.Outcome.ValueType, population: Population) -> None:
    for answer in answers:
        response = pb.ResolveSessionResponse.FromString(answer)
        subject = population.owners.get(response.session.id)
        if (response.outcome, response.principal.subject) != (outcome, subject):
            raise WrongAnswerError(
                f"{pb.Outcome.Name(response.outcome)} instead of {pb.Outcome.Name(outcome)}, "
                f"{response.principal.subject!r} instead of {subject!r}"
            )


def _check_echo(answers: Sequence[bytes], response_bytes: int) -> None:
    if any(len(answer) != response_bytes for answer in answers):
        raise WrongAnswerError("the echo has another length")


async def _lookup_micros(population: Population) -> float:
    """CPU µs of a lookup, straight in the store: what a resolve's noise would drown."""
    store = await SqliteStore.open(population.path, unauthenticated_cap=1)
    try:
        for _ in range(2):  # the first time fills the caches
            ids = random.choices(population.session_ids, k=LOOKUPS)  # noqa: S311 - a sample
            start = time.thread_time()
            for session_id in ids:
                await store.get(session_id)
            micros = MICROS * (time.thread_time() - start) / LOOKUPS
        return micros
    finally:
        await store.close()


def render_resolves(results: Results) -> str:
    """The table of sides."""
    base = results.resolves[ECHO]

    def row(name: str, taken: Sequence[Sample]) -> list[str]:
        micros = [sample.server_micros for sample in taken]
        rates = [sample.calls_per_second for sample in taken]
        return [
            name,
            Summary.of(micros).show(),
            Summary.of_ratios(micros, [sample.server_micros for sample in base]).show(2),
            Summary.of(rates).show(),
            Summary.of_ratios(rates, [sample.calls_per_second for sample in base]).show(2),
            f"{Summary.of(sample.server_load for sample in taken).median:.2f}",
            f"{Summary.of(sample.client_micros for sample in taken).median:.0f}",
        ]

    head = ["", "CPU µs a call", "ratio", "calls/s", "ratio", "CPUs busy", "client's CPU µs"]
    return table(head, (row(name, taken) for name, taken in results.resolves.items()))


def render_growth(results: Results) -> str:
    """What more sessions cost: a lookup in the store alone, and a resolve in all."""
    (few, small), (many, large) = results.lookups.items()
    before, after = (
        [sample.server_micros for sample in results.resolves[_row_8(sessions)]]
        for sessions in (few, many)
    )
    rows = [
        _growth("lookup, in the store alone", small, large),
        _growth("row 8, in all", before, after),
    ]
    return table(["CPU µs", f"{few:,} sessions", f"{many:,} sessions", "ratio"], rows)


def _growth(name: str, small: Sequence[float], large: Sequence[float]) -> list[str]:
    ratio = Summary.of_ratios(large, small)
    return [name, Summary.of(small).show(1), Summary.of(large).show(1), ratio.show(2)]


def _row_8(sessions: int) -> str:
    return f"row 8, {sessions:,} sessions"
