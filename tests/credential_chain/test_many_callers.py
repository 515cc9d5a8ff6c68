"""Eighty callers at once who change clients, actors, tokens, sessions and replicas: whatever
is in an answer, was issued to the principal of that request's own token. The endpoints' own record
says to whom, and how often."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from authsvc.client import AuthError, CredentialRequest, Credentials, Reason, Resolution
from tests.credential_chain.world import (
    AWS,
    BUCKETS,
    ISSUERS,
    NAMES,
    Token,
    World,
    a_world,
    replicas,
    secret_of,
)
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.mint import Issued
from tests.support.service import Service
from tests.support.tokens import RESOURCE

pytestmark = pytest.mark.anyio

CALLERS = 80
ROUNDS = 3
STEPS = 3
BETWEEN_ROUNDS_SECONDS = 100.0

LIFETIMES = (60.0, 150.0, 600.0)
"""Of tokens: some end before the next round."""

NO_SESSION = {
    Reason.SESSION_SUBJECT_MISMATCH,
    Reason.SESSION_NOT_FOUND,
    Reason.SESSION_REVOKED,
}
"""What another's session answers."""

Cached = dict[tuple[int, Issued], tuple[str, float]]


@pytest.fixture
def world(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    # A busy machine takes longer than an endpoint may.
    monkeypatch.setattr("authsvc.resolver.issuing.OTHERS_WAIT_SECONDS", TIMEOUT_SECONDS)
    monkeypatch.setattr("authsvc.credentials.sts.CALL_SECONDS", TIMEOUT_SECONDS)
    monkeypatch.setattr("authsvc.credentials.aws.READ_TIMEOUT_SECONDS", TIMEOUT_SECONDS)
    monkeypatch.setattr("authsvc.net.fetching.FETCH_TIMEOUT_SECONDS", TIMEOUT_SECONDS)
    monkeypatch.setattr("authsvc.net.fetching.CONNECT_TIMEOUT_SECONDS", TIMEOUT_SECONDS)
    with a_world(clock) as made:
        yield made


@dataclass
class Caller:
    """One of many, who acts by a seed. Each has a user of its own, of one of two issuers that both
    know one of that name.

    Attributes:
        number: which one.
        world: has the endpoints.
        services: the replicas.
        issued: what each replica has to have in its cache, by whom it was issued to: the secret,
            and when it was issued.
        calls: how often endpoints have to have been called.
        done: what the caller has done.
    """

    number: int
    world: World
    services: Sequence[Service]
    issued: Cached
    calls: Counter[Issued]
    done: Counter[str] = field(default_factory=Counter)
    tokens: list[Token] = field(default_factory=list)
    sessions: int = 0

    def __post_init__(self) -> None:
        self.random = Random(self.number)
        self.issuer = ISSUERS[self.number % 2]
        self.subject = f"user-{self.number // 2}"
        self.by_token = self.number % 3 == 0

    @property
    def session(self) -> str:
        """The session; every third caller has none but that of its token."""
        return "" if self.by_token else f"session-{self.number}-{self.sessions}"

    def new_token(self) -> Token:
        """Another one: of any client, actor, role, lifetime and set of buckets."""
        made = self.world.token(
            self.subject,
            issuer=self.issuer,
            client=self.random.choice(("ide", "cli")),
            actor=self.random.choice(("", "", "agent")),
            buckets=self.random.choice((BUCKETS, BUCKETS[:1], BUCKETS[1:])),
            roles=self.random.choice(((), ("dev",))),
            ttl_seconds=self.random.choice(LIFETIMES),
        )
        self.tokens.append(made)
        return made

    def selection(self, token: Token) -> tuple[CredentialRequest, ...] | None:
        """Any names, in any order; of AWS for any of the token's buckets."""
        if self.random.random() < 0.2:
            return None
        names = self.random.sample(NAMES, self.random.randrange(4))
        return tuple(
            CredentialRequest(name, self._some(token.buckets) if name in AWS else ())
            for name in names
        )

    def _some(self, buckets: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(self.random.sample(buckets, self.random.randrange(len(buckets) + 1)))

    async def round(self, replica: int) -> None:
        """Some steps, at one replica."""
        steps = (self.ask, self.ask_with_two, self.intrude, self.revoke, self.renew, self.refresh)
        for _ in range(STEPS):
            await self.random.choices(steps, (4, 2, 1, 1, 1, 2))[0](replica)

    async def ask(self, replica: int, token: Token | None = None) -> None:
        """Ask with one of its tokens, which may have ended."""
        if token is None:
            token = self.random.choice(self.tokens[-3:] or [self.new_token()])
        await self.ask_for(replica, token, self.selection(token))

    async def ask_for(
        self, replica: int, token: Token, selection: tuple[CredentialRequest, ...] | None
    ) -> None:
        """Ask, and check the answer."""
        if token.expire_time <= self.world.clock():
            with pytest.raises(AuthError) as caught:
                await self._resolve(replica, token, selection)
            assert caught.value.reason is Reason.TOKEN_EXPIRED
            self.done["expired"] += 1
            return
        answer = await self._resolve(replica, token, selection)
        found = self.world.check(token, selection, answer)
        for wanted in (CredentialRequest(),) if selection is None else selection:
            if wanted.name in found:
                self._cached(replica, token, wanted, found[wanted.name])
        self.done["asked"] += 1

    def _cached(
        self, replica: int, token: Token, wanted: CredentialRequest, found: Credentials
    ) -> None:
        """What is issued once is issued again, until it is replaced."""
        issued = token.expected(wanted)
        assert issued is not None
        if (replica, issued) not in self.issued:
            self._note_issued(replica, issued, found)
        assert self.issued[replica, issued][0] == secret_of(found)

    def _note_issued(self, replica: int, issued: Issued, found: Credentials) -> None:
        self.calls[issued] += 1
        self.issued[replica, issued] = secret_of(found), self.world.clock()

    async def ask_with_two(self, replica: int) -> None:
        """Two tokens at once on one session: of two clients, or with and without an actor."""
        two = self.new_token(), self.new_token()
        for at_once in (two[:1] * 2, two):
            await asyncio.gather(*(self.ask(replica, it) for it in at_once))
        self.done["with two"] += 1

    async def refresh(self, replica: int) -> None:
        """A new token in place of the last."""
        await self.ask(replica, self.new_token())
        self.done["refreshed"] += 1

    async def intrude(self, replica: int) -> None:
        """On another's session: that of a user of the same name, or of a neighbour."""
        token = self.new_token()
        other = (self.number + self.random.choice((1, 2, CALLERS - 1))) % CALLERS
        with pytest.raises(AuthError) as caught:
            await self.services[replica].client.resolve(
                f"session-{other}-0",
                token.text,
                resource=RESOURCE,
                credentials=tuple(map(CredentialRequest, NAMES)),
            )
        assert caught.value.reason in NO_SESSION
        self.done[caught.value.reason.name] += 1

    async def revoke(self, replica: int) -> None:
        """End the session: nothing more is issued in it, not even what is cached."""
        if self.by_token:
            return
        token = self.new_token()
        selections = None, (), tuple(map(CredentialRequest, NAMES))
        for selection in selections:
            await self.ask_for(replica, token, selection)
        await self.services[replica].client.revoke(self.session)
        for selection in selections:
            with pytest.raises(AuthError) as caught:
                await self._resolve(replica, token, selection)
            assert caught.value.reason is Reason.SESSION_REVOKED
        self.sessions += 1
        self.done["revoked"] += 1

    async def renew(self, replica: int) -> None:
        """Say that an API has rejected a token: another one is issued once it is old enough."""
        now = self.world.clock()
        token = next((it for it in reversed(self.tokens) if it.expire_time > now), None)
        if token is None:
            return
        plain = CredentialRequest("chat")
        before = self.world.check(token, (plain,), await self._resolve(replica, token, (plain,)))
        self._cached(replica, token, plain, before["chat"])
        digest = sha256(secret_of(before["chat"]).encode()).digest()
        wanted = CredentialRequest("chat", (), digest)
        after = self.world.check(token, (wanted,), await self._resolve(replica, token, (wanted,)))
        issued = token.expected(plain)
        assert issued is not None
        _, issue_time = self.issued[replica, issued]
        is_replaced = secret_of(after["chat"]) != secret_of(before["chat"])
        assert is_replaced is (now >= issue_time + 5)
        if is_replaced:
            self._note_issued(replica, issued, after["chat"])
            self.done["replaced"] += 1
        again = self.world.check(token, (plain,), await self._resolve(replica, token, (plain,)))
        self._cached(replica, token, plain, again["chat"])

    async def _resolve(
        self, replica: int, token: Token, selection: tuple[CredentialRequest, ...] | None
    ) -> Resolution:
        return await self.services[replica].client.resolve(
            self.session, token.text, resource=RESOURCE, create=True, credentials=selection
        )


@pytest.mark.parametrize(
    "streams", [(True,), (False,), (True, False)], ids=["stream", "unary", "both-over-valkey"]
)
async def test_each_gets_its_own(world: World, tmp_path: Path, streams: tuple[bool, ...]) -> None:
    """Of two replicas, one is asked by stream and one by call; each has a cache of its own."""
    count = len(streams)
    issued: Cached = {}
    calls: Counter[Issued] = Counter()
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        replicas(world, tmp_path, streams) as services,
    ):
        callers = [Caller(it, world, services, issued, calls) for it in range(CALLERS)]
        for number in range(ROUNDS):
            await asyncio.gather(*(it.round((it.number + number) % count) for it in callers))
            world.clock.advance(BETWEEN_ROUNDS_SECONDS)
    assert world.mint.counts() == calls
    assert world.mint.calls == dict(Counter(it.name for it in calls.elements()))
    done = sum((it.done for it in callers), Counter())
    assert {
        *("asked", "with two", "refreshed", "revoked", "replaced", "expired"),
        *(it.name for it in NO_SESSION),
    } == {*done}, done
