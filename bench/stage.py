"""What sections have in common: servers on a population, and sides that alternate."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench import echo
from bench.calls import STREAM, UNARY
from bench.client import Order
from bench.generator import Clients, Outcome, WrongAnswerError, clients
from bench.population import Population
from bench.processes import PLACEMENTS, ServerProcess, authsvc_server, echo_server, place

NameT = TypeVar("NameT", bound=Hashable)
ResultT = TypeVar("ResultT")

Side = Callable[[], Awaitable[ResultT]]
"""One side of a comparison: takes a sample."""

APART = PLACEMENTS[0]
"""Server and clients each have a CPU, where there is more than one."""

CONNECTIONS = 8
IN_FLIGHT = 64

PROCESSES = 2
"""Client processes, unless a section says otherwise."""

WARM_UP_SESSIONS = 2_000

NO_LIMITS = """
[limits]
calls_per_second = 10_000_000
calls_burst = 10_000_000
max_concurrent_calls_per_caller = 10_000
rejected_tokens_per_second = 10_000_000
rejected_tokens_burst = 10_000_000
anonymous_sessions_per_second = 10_000_000
anonymous_sessions_burst = 10_000_000
"""
"""What costs are measured under: rationing would hide them."""


def ext_authz_tables(folder: Path) -> str:
    """The tables of authsvc's configuration that have it serve Envoy's Check.

    Args:
        folder: for the key that encrypts the keys of assertions.
    """
    key = folder / "assertions.key"
    key.write_text(secrets.token_urlsafe(32), encoding="utf-8")
    key.chmod(0o600)
    return f"""
[ext_authz]

[assertions]
issuer = "https://authsvc.example"
listen = "127.0.0.1:0"
encryption_key_file = {json.dumps(str(key))}
"""


RESPONSE_BYTES = 5_700
"""Session, principal with 32 buckets and 24 permissions, claims: what row 8 responds with to a
token of 4 KB."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A server and its clients, which ask it about a population.

    Attributes:
        server: who is asked.
        clients: who ask.
        population: about whom.
    """

    server: ServerProcess
    clients: Clients
    population: Population

    def order(self, method: str = UNARY, **others: object) -> Order:
        """Row 8, over as many connections as sections use, unless others say otherwise."""
        chosen: dict[str, object] = {
            "mix": {"hot": 1.0},
            "connections": CONNECTIONS,
            "in_flight": IN_FLIGHT,
            **others,
        }
        return Order(self.server.address, method, self.population.to_json(), **chosen)  # type: ignore[arg-type] # fields of Order

    async def load(
        self,
        method: str = UNARY,
        *,
        placement: str = APART,
        may_fail: bool = False,
        **others: object,
    ) -> Outcome:
        """Put a load on; see ``order``.

        Raises:
            WrongAnswerError: something was refused or not answered, and may not be.
        """
        place(self.server, placement, self.clients.pids)
        outcome = await self.clients.load(self.order(method, **others), self.server)
        if outcome.failed and not may_fail:
            raise WrongAnswerError(f"{dict(outcome.failed)} requests failed")
        return outcome

    async def warm_up(self) -> None:
        """Have the server meet the tokens and most of the sessions, by both RPCs."""
        for method in (UNARY, STREAM):
            await self.load(method, calls=4 * min(self.population.sessions, WARM_UP_SESSIONS))


@asynccontextmanager
async def authsvc_stage(
    folder: Path,
    population: Population,
    *,
    tables: str = NO_LIMITS,
    settings: str = "",
    store: str = "",
    processes: int = PROCESSES,
    database: Path | None = None,
) -> AsyncIterator[Stage]:
    """authsvc on a database that ``bench.population.fill`` has made.

    Args:
        folder: for configuration and log; and for the database, unless it is elsewhere.
        population: what is in the database.
        tables: further tables of its configuration.
        settings: further settings of it.
        store: further settings of its store.
        processes: how many client processes there are.
        database: the file.

    Raises:
        bench.processes.ServerError: it did not start.
    """
    database = database or folder / "sessions.db"
    config = configuration(
        folder, population, database, settings=settings, store=store, tables=tables
    )
    async with (
        authsvc_server(config, folder / "authsvc.log") as server,
        clients(processes) as asking,
    ):
        yield Stage(server, asking, population)


def configuration(
    folder: Path,
    population: Population,
    database: Path | None,
    *,
    settings: str = "",
    store: str = "",
    tables: str = "",
) -> Path:
    """The configuration of an authsvc. A JSON string is a TOML string, too.

    Args:
        folder: where it goes.
        population: whose issuer and resource it knows.
        database: of SQLite; None where ``store`` names another store.
        settings: further settings.
        store: further settings of the store.
        tables: further tables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "authsvc.toml"
    path.write_text(
        f"""\
listen = "127.0.0.1:0"
resources = [{json.dumps(population.resource)}]
log_format = "json"
drain_seconds = 0
max_connection_age_seconds = 0
{settings}
{tables}

[store]
{"" if database is None else f"path = {json.dumps(str(database))}"}
{store}

[[issuers]]
issuer = {json.dumps(population.issuer)}
{_keys(folder, population)}
algorithms = [{json.dumps(population.algorithm)}]
""",
        encoding="utf-8",
    )
    return path


def _keys(folder: Path, population: Population) -> str:
    """The setting of the file with the issuer's key, which is written."""
    if population.algorithm == "HS256":
        name, keys = "secret", population.secret
    else:
        name, keys = "jwks", json.dumps({"keys": [population.public_jwk()]})
    (folder / name).write_text(keys, encoding="utf-8")
    return f"{name}_file = {json.dumps(str(folder / name))}"


@asynccontextmanager
async def echo_stage(
    population: Population, asking: Clients, model: echo.Model = echo.Model.AIO_UVLOOP
) -> AsyncIterator[Stage]:
    """A raw echo of row 8's bytes, on the kind of server that authsvc is, for the same clients."""
    request_bytes = len(population.first_token(0)) + 100
    async with echo_server(model, request_bytes=request_bytes, response_bytes=RESPONSE_BYTES) as it:
        yield Stage(it, asking, population)


async def alternate(
    rounds: int, sides: Mapping[NameT, Side[ResultT]], step: Callable[[str], None]
) -> dict[NameT, list[ResultT]]:
    """Take each side once a round, the other way round every other time, so that none always
    follows the same one. The first round warms up and does not count."""
    taken: dict[NameT, list[ResultT]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        step(f"round {number} of {rounds}" if number else "warming up")
        for name in list(sides) if number % 2 else reversed(list(sides)):
            result = await sides[name]()
            if number:
                taken[name].append(result)
    return taken
