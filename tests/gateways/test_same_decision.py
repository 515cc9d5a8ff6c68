"""The gate and a gateway's check come to one decision: whatever is asked, with the same answer.

A third of the requests are earlier ones, as they were or in one respect another, while time passes,
tokens are revoked and sessions end: what is cached of a request decides nothing later.

There are two differences, both where the server behind mints the ids of its sessions, since a check
does not see its answers. An id that authsvc does not know is adopted with the first token, where
the gate answers 404. Without an id the caller has its principal's session, where the gate answers
400. In both, an open message without a token has no identity. The gate's answer is compared as of a
session that it knows, and that nobody owns yet.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Callable

import pytest

from authsvc.domain.revocation_target import (
    ProviderSessionTarget,
    RevocationTarget,
    SubjectTarget,
    TokenTarget,
)
from authsvc.gateways.routes import Route
from authsvc.gateways.tool_scopes import RouteRequirement
from authsvc.http_auth.messages import calls, parse
from authsvc.http_auth.refusals import Refusal
from authsvc.http_auth.throttling import Pace
from authsvc.tokens.keys import KeySet, VerificationKey
from authsvc.tokens.minting import mint
from mcp_adapter.gate import lingering
from tests.gateways.both_ways import Authsvc, Check, Gate, Outcome, Sent
from tests.gateways.made_requests import FRESH, Made, Maker
from tests.support.clock import Clock
from tests.support.tokens import ISSUER, RESOURCE

pytestmark = pytest.mark.anyio

REQUESTS = 2_500
SEEDS = range(2)

ROUTE = {
    "resource": RESOURCE,
    "scopes": ("objects.read",),
    "tools": {"delete": ("objects.write",), "list": ("buckets.read",)},
    "authorization_servers": (ISSUER,),
}
STATUSES = (200, 204, 400, 401, 403, 404, 405, 415)
"""Of answers that come in the server's place, some to each of so many requests."""

KNOWN_SESSIONS = 12

VALID = ("alice", "alice", "alice", "alice-as-reader", "alice-as-reader", "bob") * 2


class Trial:
    """A gate and a gateway that are asked the same.

    Args:
        seed: of what is asked.
        adopts: whether the server behind mints the ids of its sessions.
    """

    def __init__(self, seed: int, *, adopts: bool) -> None:
        self.clock = Clock()
        self.key = VerificationKey(None, "HS256", b"k" * 32)
        keys = KeySet((self.key,))
        self.route = Route(**ROUTE, adopt_sessions=adopts)  # type: ignore[arg-type] # of one type each
        self.requirement = RouteRequirement(self.route)
        self.services = Authsvc(keys, self.clock), Authsvc(keys, self.clock)
        self.gate = Gate(self.route, self.services[0])
        self.check = Check(self.route, self.services[1], self.clock)
        self.tokens: dict[str, str] = {}
        self.sessions: dict[str, tuple[str, str]] = {}
        self.maker = Maker(
            seed,
            sessions=lambda: list(self.sessions),
            tokens=lambda: [*self.tokens, *VALID],
            token=self.tokens.__getitem__,
        )
        self.outcomes: Counter[str] = Counter()
        self._issue()

    def _issue(self) -> None:
        """New tokens, and some that are not valid."""
        now = self.clock()
        everything = "objects.read objects.write buckets.read"
        made: dict[str, dict[str, object]] = {
            "alice": {"sub": "alice", "scope": everything, "sid": "b"},
            "alice-as-reader": {"sub": "alice", "scope": "objects.read", "sid": "a"},
            "alice-without": {"sub": "alice"},
            "bob": {"sub": "bob", "scope": everything, "client_id": "app", "roles": ["x"]},
            "expired": {"sub": "alice", "scope": everything, "exp": now - 1},
            "for-another": {"sub": "alice", "aud": "https://other.example/mcp"},
            "of-nobody-known": {"sub": "alice", "iss": "https://other.example"},
            "ends-soon": {"sub": "bob", "scope": everything, "exp": now + 30},
        }
        for name, claims in made.items():
            base = {"iss": ISSUER, "aud": RESOURCE, "iat": now, "exp": now + 900}
            base["jti"] = f"{name} {now}"
            self.tokens[name] = mint({**base, **claims}, self.key)
        self.tokens["forged"] = mint({"iss": ISSUER, "aud": RESOURCE}, self.key)[:-3] + "AAA"
        self.tokens["cut-off"] = self.tokens["alice"][:-1]

    async def run(self, count: int) -> None:
        """Ask and compare."""
        for _ in range(count):
            chance = self.maker.random.random()
            if chance < 0.005:
                await self._revoke()
            if chance < 0.03:
                self.clock.advance(self.maker.random.choice((1.0, 5.0, 20.0)))
                self._issue()
            await self.ask(self.maker.make())

    async def _revoke(self) -> None:
        """Revoke the tokens of a subject or of a provider session, or one token."""
        target: RevocationTarget = self.maker.random.choice(
            (
                SubjectTarget(ISSUER, "bob"),
                SubjectTarget(ISSUER, "alice"),
                TokenTarget(ISSUER, f"alice-as-reader {self.clock()}"),
                ProviderSessionTarget(ISSUER, "a"),
                ProviderSessionTarget(ISSUER, "a", "alice"),
                ProviderSessionTarget(ISSUER, "b", "alice"),
            )
        )
        for service in self.services:
            await service.revocations.revoke(target, caller="an operator")

    async def ask(self, made: Made) -> None:
        """Ask both the same, and compare."""
        if made.session not in {*self.sessions, FRESH}:
            made.session = ""  # that of an earlier request, which is no longer kept
        gates, checks = await self._session_ids(made)
        mints = secrets.token_urlsafe(16) if self._server_mints(made) else ""
        gate = await self.gate.ask(_sent(made, gates, mints))
        check = await self.check.ask(_sent(made, checks, mints))
        if gates and not made.session:
            gate.headers.pop("mcp-session-id", None)
        passed = f"passed as {'somebody' if check.who else 'nobody'}"
        self.outcomes[passed if check.passed else str(check.status)] += 1
        if self._is_unowned(made, gate, check):
            self.outcomes["unowned"] += 1
            return
        self._compare(made, gate, check)
        if check.passed and made.method == "POST" and (gate.session or check.session):
            await self._begin(made, gate.session, check.session)

    def _compare(self, made: Made, gate: Outcome, check: Outcome) -> None:
        for index, outcome in enumerate((gate, check)):
            names = {ids[index]: name for name, ids in self.sessions.items()}
            if (named := outcome.headers.get("mcp-session-id")) in names:
                outcome.headers["mcp-session-id"] = names[named]
            # Of others, the ids of principals' sessions differ.
            outcome.resolved = names.get(outcome.resolved, "")
        sessions = gate.session, check.session
        gate.session = check.session = ""
        assert gate == check, made
        gate.session, check.session = sessions

    async def _session_ids(self, made: Made) -> tuple[str, str]:
        """The session's id at each of the two; empty where the request names none."""
        if made.session in self.sessions:
            return self.sessions[made.session]
        new = secrets.token_urlsafe(16)
        is_decided = made.session == FRESH or (made.method == "POST" and not _names_one(made))
        if self.route.adopt_sessions and is_decided:
            await self.gate.resolver.resolve(new, "", resource=RESOURCE, create=True)
            return new, new if made.session == FRESH else ""
        return (new, new) if made.session == FRESH else ("", "")

    def _server_mints(self, made: Made) -> bool:
        return self.route.adopt_sessions and any(
            method == "initialize" for method, _ in _calls(made)
        )

    def _is_unowned(self, made: Made, gate: Outcome, check: Outcome) -> bool:
        """Whether the gate demands an owner of a session that the check does not know."""
        if not self.route.adopt_sessions or gate.status != 401 or not check.passed:
            return False
        assert not check.who
        assert "authorization" not in {name.lower() for name, value in made.headers if "." in value}
        assert all(self.requirement(method, params) is None for method, params in _calls(made))
        assert json.loads(gate.body)["error"]["message"] == "This request needs an access token."
        return True

    async def _begin(self, made: Made, gates: str, checks: str) -> None:
        """Have a session from now on. Its client uses it at once, with its token."""
        if (gates, checks) in self.sessions.values():
            return
        name = f"session-{gates}"
        self.sessions[name] = gates, checks
        while len(self.sessions) > KNOWN_SESSIONS:
            del self.sessions[next(iter(self.sessions))]
        if made.token:
            headers = [it for it in made.headers if it[0].lower() == "authorization"]
            headers.append(("Content-Type", "application/json"))
            body = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
            headers.append(("Content-Length", str(len(body))))
            await self.ask(Made("POST", "/mcp", headers, name, body=body, token=made.token))


def _sent(made: Made, session: str, mints: str) -> Sent:
    headers = list(made.headers)
    if session:
        headers = [it for it in headers if it[1].strip() or it[0].lower() != "mcp-session-id"]
        headers.append((made.session_header, session))
    return Sent(made.method, made.path, headers, made.body, made.as_map, made.as_text, mints)


def _names_one(made: Made) -> bool:
    """Whether a request names a session by a header that is made already."""
    values = [value for name, value in made.headers if name.lower() == "mcp-session-id"]
    return any(values) or len(values) > 1


def _calls(made: Made) -> list[tuple[str, dict[str, object]]]:
    try:
        return list(calls(parse(made.body)))
    except Refusal:
        return []


@pytest.fixture(autouse=True)
def _nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate lets long bodies and refusals wait for their turn, the gateway's own limits do."""
    at_once: Callable[[Pace, float], float] = lambda *_: 0.0  # noqa: E731 - a method
    monkeypatch.setattr(Pace, "delay_seconds", at_once)
    monkeypatch.setattr(lingering, "LINGER_SECONDS", 0.0)


@pytest.mark.parametrize("adopts", [False, True], ids=["minted", "adopted"])
@pytest.mark.parametrize("seed", SEEDS)
async def test_one_decision(seed: int, *, adopts: bool) -> None:
    trial = Trial(seed, adopts=adopts)
    await trial.run(REQUESTS)
    assert trial.outcomes.keys() >= {"passed as somebody", "passed as nobody", *map(str, STATUSES)}
    assert ("unowned" in trial.outcomes) is adopts
