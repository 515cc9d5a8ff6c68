"""A token endpoint that fails in each way it can: its name alone fails, as its own error, and no
more often than the endpoint can bear. Whatever is issued, is the caller's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from authsvc.client import AuthError, CredentialRequest, Credentials, Reason
from tests.credential_chain.world import Token, World, a_world, replicas, secret_of
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.http import Answer
from tests.support.mint import Form
from tests.support.service import Service
from tests.support.tokens import RESOURCE

pytestmark = pytest.mark.anyio

CHAT, MAIL = CredentialRequest("chat"), CredentialRequest("mail")
ALL = (CredentialRequest(), CredentialRequest("aws"), CHAT, MAIL)
OTHERS = (CredentialRequest(), CredentialRequest("aws"), MAIL)

FAILURE_SECONDS = 5.0
"""How long a failure is not asked about again, as docs/credentials.md says."""

Behaviour = Callable[[Form], Answer]


def echoed(form: Form) -> Answer:
    """The client's own token, as if it were the API's."""
    return Answer(f'{{"access_token": "{form["assertion"]}", "token_type": "Bearer"}}'.encode())


FAULTS: dict[str, tuple[Behaviour, Reason, float]] = {
    "unavailable": (lambda form: Answer(b"", 503), Reason.CREDENTIALS_UNAVAILABLE, 0),
    "throttled": (
        lambda form: Answer(b"", 429, {"Retry-After": "20"}),
        Reason.CREDENTIALS_UNAVAILABLE,
        20,
    ),
    "throttled-for-long": (
        lambda form: Answer(b"", 429, {"Retry-After": "86400"}),
        Reason.CREDENTIALS_UNAVAILABLE,
        30,
    ),
    "html": (lambda form: Answer(b"<html>sign in"), Reason.CREDENTIALS_UNAVAILABLE, 0),
    "empty": (lambda form: Answer(b""), Reason.CREDENTIALS_UNAVAILABLE, 0),
    "no-token": (
        lambda form: Answer(b'{"token_type": "Bearer"}'),
        Reason.CREDENTIALS_UNAVAILABLE,
        0,
    ),
    "mac": (
        lambda form: Answer(b'{"access_token": "x", "token_type": "mac"}'),
        Reason.CREDENTIALS_UNAVAILABLE,
        0,
    ),
    "moved": (
        lambda form: Answer(b"", 307, {"Location": "/mail-0"}),
        Reason.CREDENTIALS_UNAVAILABLE,
        0,
    ),
    "own-client": (
        lambda form: Answer(b'{"error": "invalid_client"}', 401),
        Reason.CREDENTIALS_UNAVAILABLE,
        0,
    ),
    "refused": (
        lambda form: Answer(b'{"error": "invalid_grant"}', 400),
        Reason.CREDENTIALS_REFUSED,
        0,
    ),
    "own-token": (echoed, Reason.CREDENTIALS_REFUSED, 0),
}
"""What an endpoint answers, the reason that callers get, and the seconds that it asks for."""


@pytest.fixture
def world(clock: Clock) -> Iterator[World]:
    with a_world(clock) as made:
        yield made


@pytest.fixture
async def service(world: World, tmp_path: Path) -> AsyncIterator[Service]:
    async with asyncio.timeout(TIMEOUT_SECONDS), replicas(world, tmp_path, (True,)) as (one,):
        yield one


@dataclass
class Asking:
    """Asks in the name of tokens, and checks what there is."""

    world: World
    service: Service

    async def ask(
        self, token: Token, *selection: CredentialRequest, session: str = "s"
    ) -> dict[str, Credentials]:
        """What is issued, by name.

        Raises:
            AuthError: of the one that is not.
        """
        answer = await self.service.client.resolve(
            session, token.text, resource=RESOURCE, create=True, credentials=selection
        )
        return self.world.check(token, selection, answer)

    async def reason(self, token: Token, *selection: CredentialRequest) -> Reason | None:
        """Why ``chat`` is not issued, where the others are; None where it is."""
        answer = await self.service.client.resolve(
            "s", token.text, resource=RESOURCE, create=True, credentials=selection
        )
        for wanted in selection:
            if wanted.name != "chat":
                self.world.check_one(token, wanted, answer.credentials_of(wanted.name))
        found = answer.named_credentials.get("chat")
        if isinstance(found, AuthError):
            return found.reason
        self.world.check_one(token, CHAT, found)
        return None


@pytest.fixture
def asking(world: World, service: Service) -> Asking:
    return Asking(world, service)


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_others_go_on(fault: str, world: World, asking: Asking) -> None:
    behaviour, reason, pause = FAULTS[fault]
    chat = world.mint.endpoint("chat")
    chat.answers = behaviour
    token = world.token("alice")
    for _ in range(5):
        assert await asking.reason(token, *ALL) is reason
        assert await asking.reason(token, CHAT) is reason
        await asking.ask(token, *OTHERS)
        await asking.ask(token)
    assert world.mint.calls == {"default": 1, "aws": 1, "mail-0": 1, "chat": 1}
    # Not one call more before the time that the endpoint asks for.
    chat.answers = None
    world.clock.advance(max(FAILURE_SECONDS, pause) - 1)
    assert await asking.reason(token, *ALL) is reason
    assert chat.calls == 1
    world.clock.advance(1)
    assert await asking.reason(token, *ALL) is None
    assert world.mint.calls == {"default": 1, "aws": 1, "mail-0": 1, "chat": 2}


async def test_one_that_does_not_answer_in_time(
    world: World, asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = world.mint.endpoint("chat")
    token, bobs = world.token("alice"), world.token("bob")
    await asking.ask(token, *OTHERS)
    monkeypatch.setattr("authsvc.net.fetching.FETCH_TIMEOUT_SECONDS", 0.1)
    chat.hold.clear()
    try:
        waiting = asyncio.create_task(asking.reason(token, *ALL))
        assert await asyncio.to_thread(chat.arrived.acquire, timeout=TIMEOUT_SECONDS)
        await asking.ask(token, *OTHERS)
        await asking.ask(token)
        await asking.ask(bobs, session="bobs")
        assert await waiting is Reason.CREDENTIALS_UNAVAILABLE
    finally:
        chat.hold.set()
    assert await asking.reason(token, CHAT) is Reason.CREDENTIALS_UNAVAILABLE
    assert chat.calls == 1


async def test_an_answer_after_the_caller_has_left_is_the_next_ones_and_nobody_elses(
    world: World, asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authsvc.net.fetching.FETCH_TIMEOUT_SECONDS", TIMEOUT_SECONDS)
    chat = world.mint.endpoint("chat")
    token, again, bobs = world.token("alice"), world.token("alice"), world.token("bob")
    await asking.ask(token)
    chat.hold.clear()
    try:
        leaving = asyncio.create_task(asking.ask(token, *ALL))
        assert await asyncio.to_thread(chat.arrived.acquire, timeout=TIMEOUT_SECONDS)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        # The call goes on. Another token, of this subject or of another, does not join it.
        joining = [
            asyncio.create_task(asking.ask(it, CHAT, session=session))
            for it, session in ((token, "s"), (again, "s"), (bobs, "bobs"))
        ]
        for _ in range(2):
            assert await asyncio.to_thread(chat.arrived.acquire, timeout=TIMEOUT_SECONDS)
    finally:
        chat.hold.set()
    found = [secret_of(it["chat"]) for it in await asyncio.gather(*joining)]
    assert len({*found}) == 3
    assert chat.calls == 3
    assert secret_of((await asking.ask(token, *ALL))["chat"]) == found[0]
    assert chat.calls == 3


@dataclass
class Model:
    """What the cache has for one token, as docs/credentials.md says.

    Attributes:
        token: cached, and when it was issued.
        failure: why the last call failed, and until when none is made.
        calls: that were made.
    """

    token: str = ""
    issue_time: float = 0.0
    failure: Reason | None = None
    until: float = 0.0
    calls: int = 0

    def asks(self, now: float, *, is_rejected: bool) -> bool:
        """Whether the endpoint is asked."""
        if self.token and not (is_rejected and now >= self.issue_time + 5):
            return False
        return now >= self.until


@pytest.mark.parametrize("seed", range(6))
async def test_one_that_flaps(seed: int, world: World, asking: Asking) -> None:
    """At any time an API may reject what it was given, and the endpoint may answer anything."""
    random, chat = Random(seed), world.mint.endpoint("chat")
    token, model = world.token("alice", ttl_seconds=3000), Model()
    issued_by: list[str] = []
    for _ in range(120):
        world.clock.advance(random.choice((0, 0, 1, 4, 6, 25)))
        now, fault = world.clock(), random.choice(("", random.choice([*FAULTS])))
        chat.answers = FAULTS[fault][0] if fault else None
        is_rejected = bool(model.token) and random.random() < 0.4
        digest = sha256(model.token.encode()).digest() if is_rejected else b""
        wanted = CredentialRequest("chat", (), digest)
        asks = model.asks(now, is_rejected=is_rejected)
        failure = None
        if asks:
            model.calls += 1
            if fault:
                _, failure, pause = FAULTS[fault]
                model.failure, model.until = failure, now + max(FAILURE_SECONDS, pause)
                if failure is Reason.CREDENTIALS_REFUSED:
                    model.token = ""
        elif not model.token or (is_rejected and now >= model.issue_time + 5):
            failure = model.failure
        selection = random.choice(((wanted,), (wanted, MAIL), (MAIL, wanted)))
        if failure is not None:
            assert await asking.reason(token, *selection) is failure
        else:
            got = secret_of((await asking.ask(token, *selection))["chat"])
            if asks:
                assert got not in issued_by
                issued_by.append(got)
                model.token, model.issue_time = got, now
            assert got == model.token
        assert chat.calls == model.calls
    assert model.calls > 20
    assert len(issued_by) > 5
