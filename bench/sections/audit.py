"""What the audit of calls costs: CPU of a tool call at the gate, and of a Check."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from functools import partial

from bench.apps import PATHS
from bench.calls import UNARY
from bench.checks import CHECK
from bench.figures import Sample, Summary
from bench.population import Population, fill
from bench.processes import ServerProcess, module_server
from bench.section import Options, Section
from bench.sections.gate import CONNECTIONS, ERAS, closed_loop, tool_call
from bench.stage import NO_LIMITS, Side, Stage, alternate, authsvc_stage, ext_authz_tables

SESSIONS = 200
CALLS = 3_000

OFF = "off"
MODES = {
    OFF: ("off", "json"),
    "sampled, 1 %": ("sampled", "json"),
    "full, JSON": ("full", "json"),
    "full, OCSF": ("full", "ocsf"),
}
"""``calls`` and ``format`` of ``[audit]``."""

Samples = Mapping[tuple[str, str], list[Sample]]


async def run(options: Options) -> Section:
    """See the module."""
    folder = options.folder / "audit"
    folder.mkdir()
    population = Population.of(SESSIONS)
    sides: dict[tuple[str, str], Side[Sample]] = {}
    async with AsyncExitStack() as running:
        for number, (mode, (calls, audit_format)) in enumerate(MODES.items()):
            own = folder / str(number)
            own.mkdir()
            await fill(own / "sessions.db", population)
            audited = _tables(calls, audit_format)
            tables = NO_LIMITS + ext_authz_tables(own) + audited
            setting = f"audit_file = {json.dumps(str(own / 'checks'))}"
            ours = await running.enter_async_context(
                authsvc_stage(own, population, tables=tables, settings=setting)
            )
            await ours.load(UNARY, calls=4 * SESSIONS)
            await ours.load(CHECK, calls=4 * SESSIONS)
            arguments = (ours.server.address, population.resource, calls, audit_format)
            adapter = await running.enter_async_context(
                module_server("bench.apps", *arguments, str(own / "calls"))
            )
            sides["Check", mode] = partial(_checks, ours)
            for era in ERAS:
                sides[f"gate, {era}", mode] = _gate(adapter, population, era)
        samples = await alternate(options.rounds, sides, options.step)
    kinds = dict.fromkeys(kind for kind, _ in sides)
    return Section(
        title="What the audit of calls costs",
        head=("", "CPU µs", "more than off", "calls/s"),
        rows=[_row(samples, kind, mode) for kind in kinds for mode in MODES],
        notes=(
            (
                "CPU of the process: of the server of a trivial tool behind the gate, and of "
                "authsvc for a Check of row 8. The thread that writes is in it. Each mode has a "
                "process of its own; they alternate."
            ),
        ),
        samples={
            f"{kind}, {mode}": [asdict(sample) for sample in taken]
            for (kind, mode), taken in samples.items()
        },
    )


def _tables(calls: str, audit_format: str) -> str:
    return f"""
[audit]
calls = "{calls}"
format = "{audit_format}"
"""


async def _checks(ours: Stage) -> Sample:
    return (await ours.load(CHECK, mix={"hot": 1.0}, calls=CALLS)).sample


def _gate(adapter: ServerProcess, population: Population, era: str) -> Side[Sample]:
    token = population.first_token(0)
    session = population.session_id(0) if era == "legacy" else ""
    requests = [
        tool_call(PATHS["gate"], ERAS[era], token, session, number) for number in range(CONNECTIONS)
    ]
    return lambda: closed_loop(adapter, requests, CALLS)


def _micros(samples: Sequence[Sample]) -> list[float]:
    return [sample.server_micros for sample in samples]


def _row(samples: Samples, kind: str, mode: str) -> list[str]:
    taken = samples[kind, mode]
    more = Summary.of_differences(_micros(taken), _micros(samples[kind, OFF]))
    return [
        f"{kind}: {mode}",
        Summary.of(_micros(taken)).show(),
        more.show(1),
        Summary.of(sample.calls_per_second for sample in taken).show(),
    ]
