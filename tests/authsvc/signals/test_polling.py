"""Polls over real HTTP: what is acknowledged, what is reported, what is to be sent again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from starlette.responses import JSONResponse, Response

from authsvc.domain.errors import AuthError, Reason
from authsvc.net.fetching import MAX_DOCUMENT_BYTES, Fetcher
from authsvc.signals import polling
from authsvc.signals.errors import SignalError, SignalErrorCode
from authsvc.signals.polling import MAX_SETS, SetPoller
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.signal_receiver import FakeReceiver
from tests.support.transmitter import Transmitter, transmitting

pytestmark = pytest.mark.anyio

UNAVAILABLE = AuthError(Reason.STORE_UNAVAILABLE)


@dataclass
class Polls:
    """A ``PollObserver``.

    Attributes:
        failures: of the polls that have ended, in order; an empty one of a success.
        ended: notified at each.
    """

    failures: list[str] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def polled(self, issuer: str, failure: str) -> None:
        assert issuer == "https://idp.example"
        self.failures.append(failure)
        self.ended.set()

    async def next_failure(self) -> str:
        """The failure of the next poll that ends."""
        self.ended.clear()
        await self.ended.wait()
        return self.failures[-1]


@dataclass
class Polled:
    """A transmitter that is polled.

    Attributes:
        transmitter: itself.
        receiver: gets the SETs.
        polls: how they ended.
        stopping: ends it.
        polling: polls.
    """

    transmitter: Transmitter
    receiver: FakeReceiver
    polls: Polls
    stopping: asyncio.Event
    polling: asyncio.Task[None]

    @property
    def texts(self) -> list[str]:
        """The SETs that were received."""
        return [text for _, text, _ in self.receiver.received]

    async def stop(self) -> None:
        """Stop it, and wait for its end."""
        self.stopping.set()
        await self.polling


@asynccontextmanager
async def polled(folder: Path, transmitter: Transmitter) -> AsyncIterator[Polled]:
    """Poll a transmitter."""
    file = folder / "authorization"
    file.write_text("Bearer poll-secret\n")
    receiver, polls, stopping = FakeReceiver(), Polls(), asyncio.Event()
    poller = SetPoller(
        polling.Transmitter("https://idp.example", transmitter.url, file, Fetcher()),
        receiver,
        (polls,),
        max_set_bytes=1_000,
    )
    task = asyncio.create_task(poller.run(stopping))
    it = Polled(transmitter, receiver, polls, stopping, task)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            yield it
            await it.stop()
    finally:
        task.cancel()


@pytest.fixture
async def transmitter(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Transmitter]:
    """One that is polled without pauses."""
    for name in ("IDLE_SECONDS", "FIRST_PAUSE_SECONDS", "LONGEST_PAUSE_SECONDS"):
        monkeypatch.setattr(polling, name, 0.001)
    monkeypatch.setattr(polling, "SETS_PER_SECOND", 1e6)
    async with transmitting() as running:
        yield running


async def test_a_set_is_acknowledged_once_it_is_received(
    tmp_path: Path, transmitter: Transmitter
) -> None:
    async with polled(tmp_path, transmitter) as it:
        await transmitter.until_polled(1)
        await transmitter.send(a="set-a", b="set-b")
        await transmitter.until_empty()
        assert it.receiver.received == [("set", "set-a", ""), ("set", "set-b", "")]
        first, second = transmitter.polls[:2]
        assert first == {"maxEvents": MAX_SETS, "returnImmediately": False}
        assert second["ack"] == ["a", "b"]
        assert "setErrs" not in second
        assert {*transmitter.authorizations} == {"Bearer poll-secret"}
        # The next one waits for a SET: it is a long poll.
        await transmitter.send(c="set-c")
        await transmitter.until_empty()
        assert transmitter.polls[2]["ack"] == ["c"]
    assert {*it.polls.failures} == {""}


async def test_a_set_is_not_acknowledged_before(tmp_path: Path, transmitter: Transmitter) -> None:
    async with polled(tmp_path, transmitter) as it:
        it.receiver.hold.clear()
        await transmitter.send(a="set-a")
        await it.receiver.arrived.wait()
        assert not any("ack" in poll for poll in transmitter.polls)
        it.receiver.hold.set()
        await transmitter.until_empty()


async def test_a_rejected_set_is_reported(tmp_path: Path, transmitter: Transmitter) -> None:
    async with polled(tmp_path, transmitter) as it:
        it.receiver.failures["bad"] = SignalError(
            SignalErrorCode.INVALID_KEY, "The key is not known.", detail="kid 'x'"
        )
        await transmitter.send(a="bad", b="set-b", c=["no", "text"], d="x" * 1_001)
        await transmitter.until_empty()
        assert it.texts == ["bad", "set-b"]
        too_long = "The SET is not a string of at most 1000 characters."
        assert transmitter.errors == {
            "a": {"err": "invalid_key", "description": "The key is not known."},
            "c": {"err": "invalid_request", "description": too_long},
            "d": {"err": "invalid_request", "description": too_long},
        }


async def test_what_could_not_be_processed_is_sent_again(
    tmp_path: Path, transmitter: Transmitter
) -> None:
    async with polled(tmp_path, transmitter) as it:
        it.receiver.failures["set-b"] = UNAVAILABLE
        await transmitter.send(a="set-a", b="set-b", c="set-c")
        while not await it.polls.next_failure():
            pass
        assert "could not be processed" in it.polls.failures[-1]
        await transmitter.until_polled(3)
        assert [*transmitter.sets] == ["b", "c"]
        assert "set-c" not in it.texts[:2]
        del it.receiver.failures["set-b"]
        await transmitter.until_empty()
        assert transmitter.errors == {}
        assert it.texts[-2:] == ["set-b", "set-c"]


async def test_a_bug_keeps_one_set_alone(
    tmp_path: Path, transmitter: Transmitter, caplog: pytest.LogCaptureFixture
) -> None:
    async with polled(tmp_path, transmitter) as it:
        it.receiver.failures["set-a"] = RuntimeError("about set-a")
        await transmitter.send(a="set-a", b="set-b")
        while "b" in transmitter.sets:
            await it.polls.next_failure()
        assert [*transmitter.sets] == ["a"]
        assert "a signal failed unexpectedly: RuntimeError" in caplog.text
        assert "set-a" not in caplog.text
        del it.receiver.failures["set-a"]
        await transmitter.until_empty()


async def test_a_backlog_is_bounded_in_each_answer(
    tmp_path: Path, transmitter: Transmitter
) -> None:
    await transmitter.send(**{f"id-{number}": f"set-{number}" for number in range(250)})
    async with polled(tmp_path, transmitter) as it:
        await transmitter.until_empty()
        assert len(it.texts) == 250
        assert [len(poll.get("ack", ())) for poll in transmitter.polls[:4]] == [0, 100, 100, 50]


async def test_a_transmitter_that_always_has_more_is_polled_at_a_rate(
    tmp_path: Path, transmitter: Transmitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    ended = asyncio.Event()

    async def paused(event: asyncio.Event, seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            ended.set()
            await event.wait()

    monkeypatch.setattr(polling, "_set_within", paused)
    monkeypatch.setattr(polling, "SETS_PER_SECOND", 0.1)
    for answer in range(2):
        sets = {f"id-{answer}-{number}": f"set-{answer}-{number}" for number in range(MAX_SETS + 5)}
        transmitter.answers.append(JSONResponse({"sets": sets, "moreAvailable": True}))
    async with polled(tmp_path, transmitter) as it:
        await ended.wait()
        assert len(it.texts) == 2 * MAX_SETS
        await it.stop()
    # Less what the poll itself has taken.
    assert all(900 < pause <= MAX_SETS / 0.1 for pause in pauses)


async def test_of_too_many_sets_the_first_are_processed(
    tmp_path: Path, transmitter: Transmitter
) -> None:
    sets = {f"id-{number}": "x" for number in range(MAX_SETS + 1)} | {"y" * 1_025: "x"}
    transmitter.answers.append(JSONResponse({"sets": dict(reversed(sets.items()))}))
    async with polled(tmp_path, transmitter):
        await transmitter.until_polled(2)
        assert len(transmitter.polls[1]["ack"]) == MAX_SETS - 1


async def test_answers_that_are_too_long_are_asked_for_in_parts(
    tmp_path: Path, transmitter: Transmitter
) -> None:
    transmitter.answers += [Response(b" " * (MAX_DOCUMENT_BYTES + 1))] * 8
    async with polled(tmp_path, transmitter) as it:
        await transmitter.until_polled(9)
        assert [poll["maxEvents"] for poll in transmitter.polls[:9]] == [
            *(100, 50, 25, 12, 6, 3, 1, 1, 1)
        ]
        for name in "abc":
            await transmitter.send(**{name: name})
            await transmitter.until_empty()
        assert [poll["maxEvents"] for poll in transmitter.polls[9:12]] == [2, 4, 8]
        assert "is longer than" in it.polls.failures[0]


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (Response(status_code=401), "answered 401"),
        (Response(status_code=500), "answered 500"),
        (Response(status_code=302, headers={"Location": "https://evil.example"}), "a redirect"),
        (Response(b"[]"), "is not a JSON object"),
        (Response(b'{"sets": {}, "sets": {}}'), "is not a JSON object"),
        (Response(b'{"sets": []}'), "sets are not an object"),
        (Response(b"\xff"), "is not a JSON object"),
    ],
)
async def test_a_failed_poll_is_repeated_with_its_answers(
    tmp_path: Path,
    transmitter: Transmitter,
    caplog: pytest.LogCaptureFixture,
    answer: Response,
    failure: str,
) -> None:
    async with polled(tmp_path, transmitter) as it:
        await transmitter.send(a="set-a")
        await it.receiver.arrived.wait()
        transmitter.answers += [answer] * 3
        await transmitter.until_empty()
        assert it.texts[0] == "set-a"
        failures = [found for found in it.polls.failures if found]
        assert failures
        assert all(failure in found for found in failures)
        assert caplog.text.count(failure) == 1, "logged once"
        assert "poll-secret" not in caplog.text
        await transmitter.send(b="set-b")
        await transmitter.until_empty()


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_an_empty_answer_has_no_sets(
    tmp_path: Path, transmitter: Transmitter, status: int
) -> None:
    transmitter.answers.append(Response(status_code=status))
    async with polled(tmp_path, transmitter) as it:
        await transmitter.until_polled(2)
        assert it.polls.failures == [""]


async def test_a_transmitter_is_given_the_time_that_it_asks_for(
    tmp_path: Path, transmitter: Transmitter
) -> None:
    transmitter.answers.append(Response(status_code=429, headers={"Retry-After": "300"}))
    async with polled(tmp_path, transmitter) as it:
        assert "answered 429" in await it.polls.next_failure()
        await transmitter.send(a="set-a")
        # A stop does not wait for that time.
        await it.stop()
    assert len(transmitter.polls) == 1


async def test_pauses_become_longer(
    tmp_path: Path, transmitter: Transmitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def paused(event: asyncio.Event, seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(polling, "FIRST_PAUSE_SECONDS", 100.0)
    monkeypatch.setattr(polling, "LONGEST_PAUSE_SECONDS", 400.0)
    monkeypatch.setattr(polling, "_set_within", paused)
    transmitter.answers += [Response(status_code=500)] * 4
    async with polled(tmp_path, transmitter) as it:
        await transmitter.until_polled(5)
        await it.stop()
    for pause, least in zip(pauses, (100, 200, 400, 400), strict=False):
        assert 0.5 * least < pause <= 1.5 * least


async def test_without_new_sets_polls_are_rare(
    tmp_path: Path, transmitter: Transmitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = asyncio.Event()

    async def paused(event: asyncio.Event, seconds: float) -> None:
        if seconds > 500:
            idle.set()
            await event.wait()

    monkeypatch.setattr(polling, "IDLE_SECONDS", 1_000.0)
    monkeypatch.setattr(polling, "_set_within", paused)
    again = JSONResponse({"sets": {"a": "set-a"}})  # whatever was acknowledged
    transmitter.answers += [again, again]
    async with polled(tmp_path, transmitter) as it:
        await idle.wait()
        await it.stop()
    assert [poll.get("ack") for poll in transmitter.polls] == [None, ["a"], ["a"]]
    assert transmitter.polls[-1]["maxEvents"] == 0, "of the stop"


async def test_a_stop_acknowledges_what_was_received(
    tmp_path: Path, transmitter: Transmitter
) -> None:
    async with polled(tmp_path, transmitter) as it:
        it.receiver.hold.clear()
        await transmitter.send(a="set-a", b="set-b")
        await it.receiver.arrived.wait()
        it.stopping.set()
        it.receiver.hold.set()
        await it.stop()
    assert transmitter.polls[-1] == {
        "maxEvents": 0,
        "returnImmediately": True,
        "ack": ["a", "b"],
    }
    assert transmitter.sets == {}


async def test_a_stop_ends_a_long_poll(tmp_path: Path, transmitter: Transmitter) -> None:
    async with polled(tmp_path, transmitter) as it:
        await transmitter.until_polled(1)
        await it.stop()
    assert len(transmitter.polls) == 1, "there was nothing to acknowledge"


async def test_a_stop_does_not_wait_for_a_transmitter_that_fails(
    tmp_path: Path, transmitter: Transmitter, caplog: pytest.LogCaptureFixture
) -> None:
    async with polled(tmp_path, transmitter) as it:
        it.receiver.hold.clear()
        await transmitter.send(a="set-a")
        await it.receiver.arrived.wait()
        transmitter.answers += [Response(status_code=503)] * 2
        it.stopping.set()
        it.receiver.hold.set()
        await it.stop()
    assert "could not be acknowledged, and will be sent again" in caplog.text
    assert [*transmitter.sets] == ["a"]


async def test_the_authorization_is_followed(tmp_path: Path, transmitter: Transmitter) -> None:
    async with polled(tmp_path, transmitter) as it:
        await transmitter.until_polled(1)
        (tmp_path / "authorization").unlink()
        await transmitter.send(a="set-a")
        assert (
            "poll_authorization_file" in await it.polls.next_failure()
            or await it.polls.next_failure()
        )
        (tmp_path / "authorization").write_text("Bearer another")
        await transmitter.until_empty()
        assert transmitter.authorizations[-1] == "Bearer another"


async def test_an_unexpected_failure_does_not_end_it(
    tmp_path: Path,
    transmitter: Transmitter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing = [True]

    def read(path: Path) -> str:
        if failing:
            failing.pop()
            raise RuntimeError(str(path))
        return path.read_text().strip()

    monkeypatch.setattr("authsvc.signals.polling.read_secret_file", read)
    with caplog.at_level(logging.DEBUG, "authsvc"):
        async with polled(tmp_path, transmitter):
            await transmitter.send(a="set-a")
            await transmitter.until_empty()
    assert "a poll failed unexpectedly: RuntimeError" in caplog.text
    assert str(tmp_path) not in caplog.text


async def test_a_transmitter_with_a_private_address_is_not_polled(tmp_path: Path) -> None:
    nowhere = Transmitter("https://10.0.0.1/poll")
    async with polled(tmp_path, nowhere) as it:
        assert "10.0.0.1 is not public" in await it.polls.next_failure()


async def test_a_wait_ends_at_its_time_without_the_event() -> None:
    stopping = asyncio.Event()
    await polling._set_within(stopping, 0.001)
    assert not stopping.is_set()
