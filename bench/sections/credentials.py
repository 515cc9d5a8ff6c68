"""What a resolve costs that asks for no credentials, or for a cached access token, beside row 8."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

from bench.calls import STREAM, UNARY
from bench.figures import Summary
from bench.generator import Outcome, doubts
from bench.mixes import CREDENTIAL_NAME
from bench.population import Population, fill
from bench.section import Goal, Options, Section
from bench.stage import NO_LIMITS, Side, Stage, alternate, authsvc_stage

SESSIONS = 400

CALLS = {UNARY: 2_000, STREAM: 8_000}
"""Calls in a sample, by RPC."""

NONE_GOAL = 1.05
BEARER_GOAL = 1.15

KINDS = {"row 8": "hot", "no credentials": "without", "cached bearer": "bearer"}
"""By what is compared, the kind of its requests. The first is what the others are compared with."""

BASE = next(iter(KINDS))

SHORTEST_BYTES = 1_000
"""Of an access token that a real server issues."""


async def run(options: Options) -> Section:
    """See the module."""
    folder = options.folder / "credentials"
    folder.mkdir()
    population = Population.of(SESSIONS)
    await fill(folder / "sessions.db", population)
    async with (
        token_endpoint() as endpoint,
        authsvc_stage(folder, population, tables=_tables(population, endpoint.url)) as ours,
    ):
        for kind in KINDS.values():
            for method in CALLS:
                await ours.load(method, mix={kind: 1.0}, calls=8 * SESSIONS)
        issued = endpoint.issued
        sides: dict[tuple[str, str], Side[Outcome]] = {
            (method, name): _side(ours, kind, method)
            for method in CALLS
            for name, kind in KINDS.items()
        }
        taken = await alternate(options.rounds, sides, options.step)
        calls = endpoint.issued - issued
    micros = {
        side: [outcome.sample.server_micros for outcome in outcomes]
        for side, outcomes in taken.items()
    }
    ratios = {
        (method, name): Summary.of_ratios(micros[method, name], micros[method, BASE])
        for method, name in taken
    }
    return Section(
        title="A resolve without credentials, and with a cached access token",
        head=("", "CPU µs", "of row 8", "calls/s"),
        rows=[_row(side, outcomes, ratios[side]) for side, outcomes in taken.items()],
        notes=(
            (
                "Closed loop, 64 in flight; tokens of 4 KB; the server has a CPU of its own. The "
                f"access tokens of {SHORTEST_BYTES:,} bytes and more were exchanged before: "
                f"{issued:,} calls of the token endpoint then, {calls:,} since."
            ),
            (
                "In row 8 a request asks for no credentials by name, and no table has any without "
                "a name: the response is the same as with an empty selection."
            ),
        ),
        samples={
            f"{name}, {_rpc(method)}": [asdict(outcome.sample) for outcome in outcomes]
            for (method, name), outcomes in taken.items()
        },
        goals=[
            Goal(
                f"{name}, {_rpc(method)}: CPU of row 8",
                NONE_GOAL if KINDS[name] == "without" else BEARER_GOAL,
                ratios[method, name],
                doubts=doubts([*taken[method, BASE], *taken[method, name]]),
            )
            for method, name in taken
            if name != BASE
        ],
    )


def _side(ours: Stage, kind: str, method: str) -> Side[Outcome]:
    return lambda: ours.load(method, mix={kind: 1.0}, calls=CALLS[method])


def _row(side: tuple[str, str], outcomes: Sequence[Outcome], ratio: Summary) -> list[str]:
    method, name = side
    taken = [outcome.sample for outcome in outcomes]
    return [
        f"{name}, {_rpc(method)}",
        Summary.of(sample.server_micros for sample in taken).show(1),
        ratio.show(2),
        Summary.of(sample.calls_per_second for sample in taken).show(),
    ]


def _rpc(method: str) -> str:
    return "stream" if method == STREAM else "unary"


def _tables(population: Population, url: str) -> str:
    """The exchange of tokens, without limits of calls."""
    return f"""{NO_LIMITS}
[[credentials.exchange]]
name = {json.dumps(CREDENTIAL_NAME)}
resources = [{json.dumps(population.resource)}]
issuers = [{json.dumps(population.issuer)}]
endpoint = {json.dumps(url)}
allow_private_addresses = true
auth_method = "none"
"""


@dataclass
class TokenEndpoint:
    """A token endpoint (RFC 8693) that exchanges every token.

    Attributes:
        url: where it is.
        issued: how many tokens it has issued.
    """

    url: str = ""
    issued: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(
                    line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:-2]
                )
                await reader.readexactly(int(fields["content-length"]))
                self.issued += 1
                writer.write(_answer(self.issued))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def token_endpoint() -> AsyncIterator[TokenEndpoint]:
    """Run one on this machine."""
    endpoint = TokenEndpoint()
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0)
    endpoint.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"
    try:
        yield endpoint
    finally:
        server.close()


def _answer(number: int) -> bytes:
    body = json.dumps(
        {
            "access_token": f"{number:0{SHORTEST_BYTES}}",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
            "expires_in": 86_400,
        }
    ).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body
