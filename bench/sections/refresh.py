"""A new token on a session: row 10, one signature each, beside a bare verification of such tokens.

The tokens are signed with RS256, before any clock runs. Bare is ``jwt.decode`` of PyJWT with a key
that was prepared: signature, ``exp``, ``aud`` and ``iss``, and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import jwt

from bench import echo
from bench.calls import STREAM, UNARY
from bench.figures import Sample, Summary
from bench.generator import Outcome
from bench.population import Population, fill
from bench.section import Goal, Options, Section
from bench.stage import Side, alternate, authsvc_stage, echo_stage

SESSIONS = 2_000
CALLS = 800
BARE_CALLS = 300
CLIENTS = 8
GOAL = 2.0

BARE = "PyJWT, bare"
SIDES = {"row 10, unary": UNARY, "row 10, stream": STREAM}


async def run(options: Options) -> Section:
    """See the module."""
    folder = options.folder / "refresh"
    folder.mkdir()
    population = Population.of_rsa_key(SESSIONS)
    await fill(folder / "sessions.db", population)
    bare = Bare(population)
    async with (
        authsvc_stage(folder, population, processes=CLIENTS) as ours,
        echo_stage(population, ours.clients) as raw,
    ):
        await ours.warm_up()

        async def by_echo() -> Sample:
            return (await raw.load(echo.UNARY, calls=CALLS)).sample

        def side(method: str) -> Side[Sample]:
            async def refresh() -> Sample:
                outcome: Outcome = await ours.load(method, mix={"refresh": 1.0}, calls=CALLS)
                return outcome.sample

            return refresh

        sides: dict[str, Side[Sample]] = {"raw echo, unary": by_echo, BARE: bare.sample}
        for name, method in SIDES.items():
            sides[name] = side(method)
        taken = await alternate(options.rounds, sides, options.step)
    return Section(
        title="A new token on a session, beside a bare verification of its signature (RS256)",
        head=("", "CPU µs", "CPU, in bare verifications"),
        rows=[
            [
                name,
                Summary.of(sample.server_micros for sample in samples).show(),
                _ratio(taken, name).show(2),
            ]
            for name, samples in taken.items()
        ],
        notes=(
            (
                "Closed loop, 64 in flight. A new token is verified, becomes the session's by "
                "compare-and-set on SQLite (on disk before the answer), and is logged."
            ),
        ),
        samples={name: _listed(samples) for name, samples in taken.items()},
        goals=[
            Goal(
                "a new token (row 10), stream, RS256: CPU, in bare verifications by PyJWT",
                GOAL,
                _ratio(taken, "row 10, stream"),
            )
        ],
    )


class Bare:
    """Verifies tokens by ``jwt.decode`` alone.

    Args:
        population: with tokens of an RSA key.
    """

    def __init__(self, population: Population) -> None:
        self._population = population
        self._key = jwt.PyJWK(population.public_jwk()).key
        # No session is asked about with them.
        self._tokens = [
            population.later_token(number, number - BARE_CALLS) for number in range(BARE_CALLS)
        ]

    async def sample(self) -> Sample:
        """Each token once."""
        start, cpu_start = time.monotonic(), time.thread_time()
        for token in self._tokens:
            jwt.decode(
                token,
                self._key,
                algorithms=["RS256"],
                audience=self._population.resource,
                issuer=self._population.issuer,
            )
        cpu_seconds = time.thread_time() - cpu_start
        return Sample(BARE_CALLS, time.monotonic() - start, cpu_seconds, 0.0)


def _ratio(taken: Mapping[str, Sequence[Sample]], name: str) -> Summary:
    micros = {side: [sample.server_micros for sample in taken[side]] for side in (name, BARE)}
    return Summary.of_ratios(micros[name], micros[BARE])


def _listed(samples: Sequence[Sample]) -> list[dict[str, float]]:
    return [asdict(sample) for sample in samples]
