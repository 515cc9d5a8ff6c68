"""The blocking client, against an authsvc that is a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import NoReturn

import pytest

from authsvc.client import BlockingAuthClient
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.rates import Rate, RateLimit
from authsvc.domain.resolution import SessionState
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.stack import RESOURCE, start_authsvc
from tests.support.tokens import IdentityProvider

IDP = IdentityProvider(time.time)
WAIT_SECONDS = TIMEOUT_SECONDS


def token(subject: str = "alice") -> str:
    return IDP.token(subject, aud=RESOURCE)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("authsvc")
    IDP.write_secret(folder)
    with ExitStack() as running:
        yield start_authsvc(folder, running, credentials="")[1]


@pytest.fixture
def client(target: str) -> Iterator[BlockingAuthClient]:
    with BlockingAuthClient(target, deadline_seconds=TIMEOUT_SECONDS) as client:
        yield client


@pytest.fixture
def mute() -> Iterator[str]:
    """An address that takes connections and never says a word."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_the_life_of_a_session(client: BlockingAuthClient) -> None:
    made = client.create("", resource=RESOURCE)
    assert made.session is not None
    assert made.session.state is SessionState.UNAUTHENTICATED

    resolved = client.resolve(made.session.id, token(), resource=RESOURCE)
    assert resolved.principal is not None
    assert resolved.principal.subject == "alice"

    client.revoke(made.session.id)
    with pytest.raises(AuthError) as refusal:
        client.resolve(made.session.id, token(), resource=RESOURCE)
    assert refusal.value.reason is Reason.SESSION_REVOKED


def test_an_id_of_ones_own(client: BlockingAuthClient) -> None:
    with pytest.raises(AuthError) as refusal:
        client.resolve("one-of-mine", token(), resource=RESOURCE)
    assert refusal.value.reason is Reason.SESSION_NOT_FOUND

    made = client.resolve("one-of-mine", token(), resource=RESOURCE, create=True)

    assert made.session is not None
    assert made.session.id == "one-of-mine"


def test_limits_are_passed_on(client: BlockingAuthClient) -> None:
    limits, ada = [RateLimit("one", Rate(1e-6, 1.0))], token("ada")
    client.resolve("", ada, resource=RESOURCE, rate_limits=limits, recheck=True)
    client.resolve("", ada, resource=RESOURCE, rate_limits=limits, calls=2)
    client.create(token("bob"), resource=RESOURCE, rate_limits=limits)
    with pytest.raises(AuthError) as resolving:
        client.resolve("", ada, resource=RESOURCE, rate_limits=limits)
    with pytest.raises(AuthError) as creating:
        client.create(token("bob"), resource=RESOURCE, rate_limits=limits)
    assert resolving.value.limit == creating.value.limit == "one"
    client.resolve("", ada, resource=RESOURCE, rate_limits=limits, recheck=True)


def test_threads_share_it_and_each_is_answered_for_itself(client: BlockingAuthClient) -> None:
    subjects = [f"user-{number}" for number in range(8)] * 10

    def who(subject: str) -> str:
        principal = client.resolve("", token(subject), resource=RESOURCE).principal
        return principal.subject if principal else ""

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(who, subjects)) == subjects


def test_it_is_used_within_with(target: str) -> None:
    client = BlockingAuthClient(target)
    with pytest.raises(RuntimeError, match="within"):
        client.resolve("", "", resource=RESOURCE)
    with client:
        client.resolve("", "", resource=RESOURCE)
    with pytest.raises(RuntimeError, match="within"):
        client.resolve("", "", resource=RESOURCE)


def test_it_works_again_once_it_is_opened_again(target: str) -> None:
    client = BlockingAuthClient(target, deadline_seconds=TIMEOUT_SECONDS)
    for _ in range(2):
        with client:
            client.resolve("", token(), resource=RESOURCE)


def test_a_framework_may_open_and_close_it(target: str) -> None:
    client = BlockingAuthClient(target, deadline_seconds=TIMEOUT_SECONDS)
    client.close()
    for _ in range(2):
        client.open()
        client.resolve("", token(), resource=RESOURCE)
        client.close()
        client.close()
    with pytest.raises(RuntimeError, match="call open"):
        client.resolve("", token(), resource=RESOURCE)


def test_it_is_opened_once_at_a_time(client: BlockingAuthClient) -> None:
    with pytest.raises(RuntimeError, match="open already"), client:
        pass
    client.resolve("", token(), resource=RESOURCE)


def test_what_fails_while_it_is_opened_is_raised(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def new_event_loop() -> NoReturn:
        raise OSError(24, "Too many open files")

    def enter(client: BlockingAuthClient) -> None:
        with client:
            pass

    client = BlockingAuthClient(target, deadline_seconds=TIMEOUT_SECONDS)
    with monkeypatch.context() as without_descriptors:
        without_descriptors.setattr("asyncio.events.new_event_loop", new_event_loop)
        pool = ThreadPoolExecutor(1)
        opening = pool.submit(enter, client)
        with pytest.raises(OSError, match="Too many open files"):
            opening.result(WAIT_SECONDS)
        pool.shutdown()
    with client:
        client.resolve("", token(), resource=RESOURCE)


def test_its_thread_ends_with_it(target: str) -> None:
    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if "authsvc" in thread.name]

    with BlockingAuthClient(target) as client:
        client.resolve("", "", resource=RESOURCE)
        assert threads() == ["authsvc-client"]
    assert threads() == []


def test_what_is_not_answered_ends_with_its_deadline(mute: str) -> None:
    began = time.monotonic()
    with (
        BlockingAuthClient(mute, deadline_seconds=0.3) as client,
        pytest.raises(AuthError) as refusal,
    ):
        client.resolve("", token(), resource=RESOURCE)
    assert refusal.value.reason is Reason.SERVICE_UNAVAILABLE
    assert time.monotonic() - began < WAIT_SECONDS


@contextmanager
def alarm_after(seconds: float) -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, seconds)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)


def test_a_caller_that_is_interrupted_does_not_wait(mute: str) -> None:
    """As by Ctrl-C: the exception comes out at once, and the call is given up."""

    class Interrupted(BaseException):
        pass

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    previous = signal.signal(signal.SIGALRM, interrupt)
    began = time.monotonic()
    try:
        with (
            BlockingAuthClient(mute, deadline_seconds=600) as client,
            alarm_after(0.2),
            pytest.raises(Interrupted),
        ):
            client.resolve("", token(), resource=RESOURCE)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert time.monotonic() - began < WAIT_SECONDS


def test_closing_it_ends_what_others_wait_for(mute: str) -> None:
    client = BlockingAuthClient(mute, deadline_seconds=600)
    with ThreadPoolExecutor(1) as threads:
        with client:
            waiting = threads.submit(client.resolve, "", token(), resource=RESOURCE)
            while not waiting.running():
                pass
        with pytest.raises((AuthError, RuntimeError)):
            waiting.result(WAIT_SECONDS)


def test_a_forked_child_gets_an_error(target: str) -> None:
    def ask(client: BlockingAuthClient, answers: int) -> None:
        with suppress(RuntimeError):
            client.resolve("", "", resource=RESOURCE)
            os.write(answers, b"answered")
        os.write(answers, b"refused")

    fork = multiprocessing.get_context("fork")
    ours, theirs = os.pipe()
    with BlockingAuthClient(target) as client:
        child = fork.Process(target=ask, args=(client, theirs))
        child.start()
        child.join(WAIT_SECONDS)
    os.close(theirs)
    with os.fdopen(ours, "rb") as answers:
        assert answers.read() == b"refused"


@pytest.mark.parametrize("target", ["", "http://x", "nothing"])
def test_a_target_that_is_none_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="target"):
        BlockingAuthClient(target)
