"""``authsvc signals`` against a running service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx2
import pytest

from authsvc.common.settings import load
from authsvc.server.config import Settings
from authsvc.server.running import running
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.commands import PATIENT, Ran, run
from tests.support.http import Answer, listening, serving_http
from tests.support.keys import jwks
from tests.support.signals import CLIENT, RECEIVER, Sender
from tests.support.tokens import ISSUER, RESOURCE
from tests.support.valkey import free_port

pytestmark = pytest.mark.anyio

SSF = "https://schemas.openid.net/secevent/ssf/event-type/"
ABOUT_THE_STREAM = {"format": "opaque", "id": "stream-1"}
SET = {"Content-Type": "application/secevent+jwt"}
START_TIME = "2027-01-15T08:00:00.000Z"
MANAGEMENT = "Bearer management-secret"


@dataclass
class Site:
    """A running service, and commands of its operator.

    Attributes:
        config: its configuration file.
        address: of its RPCs.
        url: of its pushes.
        sender: of its stream.
    """

    config: Path
    address: str
    url: str
    sender: Sender

    async def status(self, *options: str) -> Ran:
        return await run("signals", "status", "--target", self.address, *PATIENT, *options)

    async def test(self, *options: str, issuer: str = ISSUER, config: Path | None = None) -> Ran:
        where = ("--config", str(config or self.config), "--target", self.address)
        return await run("signals", "test", issuer, *where, *PATIENT, *options)

    def push(self, text: str) -> int:
        """Push a SET; may be called in any thread."""
        answer = httpx2.post(
            self.url, content=text, headers=SET, timeout=TIMEOUT_SECONDS, trust_env=False
        )
        return answer.status_code

    async def pushed(self, text: str) -> int:
        return await asyncio.to_thread(self.push, text)

    def about_the_stream(self, event_type: str, event: object, **claims: Any) -> str:  # noqa: ANN401
        return self.sender.security_event_token(
            event_type=f"{SSF}{event_type}", event=event, sub_id=ABOUT_THE_STREAM, **claims
        )


def configuration(folder: Path, sender: Sender, port: int, more: str = "") -> Path:
    (folder / "keys.json").write_bytes(jwks(sender.signer))
    path = folder / "authsvc.toml"
    path.write_text(
        f"""
listen = "127.0.0.1:0"
resources = ["{RESOURCE}"]
local_operators = true
drain_seconds = 0
store = {{ kind = "memory" }}
[[issuers]]
issuer = "{ISSUER}"
algorithms = ["ES256"]
jwks_file = "{folder}/keys.json"
[signals]
listen = "127.0.0.1:{port}"
[[signals.streams]]
issuer = "{ISSUER}"
audiences = ["{RECEIVER}", "{CLIENT}"]
{more}
"""
    )
    return path


@asynccontextmanager
async def serving(folder: Path, clock: Clock, more: str = "") -> AsyncIterator[Site]:
    sender, port = Sender(), free_port()
    config = configuration(folder, sender, port, more)
    async with running(load(Settings, config), clock=clock) as address:
        yield Site(config, address, f"http://127.0.0.1:{port}/signals/events", sender)


@pytest.fixture
async def site(tmp_path: Path, clock: Clock) -> AsyncIterator[Site]:
    async with serving(tmp_path, clock) as it:
        yield it


# The status.


async def test_a_stream_that_has_received_nothing(site: Site) -> None:
    ran = await site.status()
    assert (ran.code, ran.err) == (0, "")
    header, row = ran.out.splitlines()
    assert header.split("  ")[0] == "ISSUER"
    assert row.split() == [ISSUER, "push", "enabled", "-", "-", "-", "-"]
    (stream,) = (await site.status("--json")).json()["streams"]
    assert stream == {
        "issuer": ISSUER,
        "polled": False,
        "state": "enabled",
        **dict.fromkeys(
            (
                *("state_time", "state_reason", "problem", "last_event", "last_rejection"),
                *("last_failure", "last_poll_time", "poll_failure", "last_verification_time"),
            )
        ),
    }


async def test_what_has_come_is_shown(site: Site) -> None:
    assert await site.pushed(site.sender.security_event_token()) == 202
    assert await site.pushed(Sender().security_event_token()) == 400
    ran = await site.status()
    assert ran.code == 0, "anybody can send what is rejected"
    assert "session-revoked (revoked)" in ran.out
    assert f"{ISSUER}: rejected " in ran.err
    assert "invalid_key: The signature does not verify." in ran.err
    (stream,) = (await site.status("--json")).json()["streams"]
    assert stream["last_event"] == {
        "time": START_TIME,
        "name": "session-revoked",
        "result": "revoked",
    }
    assert stream["last_rejection"]["time"] == START_TIME
    assert stream["problem"] is None


async def test_a_disabled_stream(site: Site) -> None:
    hostile = "\x1b]0;owned\x07\u202e gone"
    event = {"status": "disabled", "reason": hostile}
    assert await site.pushed(site.about_the_stream("stream-updated", event)) == 202
    ran = await site.status()
    assert ran.code == 1
    assert "disabled" in ran.out
    assert r"its transmitter has disabled it: \x1b]0;owned\x07\u202e gone" in ran.err
    assert "\x1b" not in ran.out + ran.err
    as_json = await site.status("--json")
    assert as_json.code == 1
    (stream,) = as_json.json()["streams"]
    assert (stream["state"], stream["problem"]) == ("disabled", "its transmitter has disabled it")
    assert stream["state_time"] == START_TIME


async def test_failing_polls(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "poll").write_text("Bearer poll-secret")
    with serving_http() as transmitter:
        transmitter.answers["/poll"] = Answer(status=503)
        more = f'poll_url = "{transmitter.url}/poll"\npoll_authorization_file = "{tmp_path}/poll"'
        async with serving(tmp_path, clock, more) as site, asyncio.timeout(TIMEOUT_SECONDS):
            while (ran := await site.status()).code == 0:
                pass
    assert ran.out.splitlines()[1].split()[1] == "poll"
    assert f"{ISSUER}: polls fail" in ran.err
    assert "503" in ran.err
    assert "not polled yet" in ran.err
    assert "poll-secret" not in ran.err


async def test_no_streams(tmp_path: Path, clock: Clock) -> None:
    config = configuration(tmp_path, Sender(), free_port())
    text = config.read_text()
    config.write_text(text[: text.index("[signals]")])
    async with running(load(Settings, config), clock=clock) as address:
        ran = await run("signals", "status", "--target", address, *PATIENT)
        tested = await run("signals", "test", ISSUER, "--config", str(config), "--target", address)
    assert (ran.code, ran.out) == (0, "")
    assert "[signals] is not set" in ran.err
    assert tested.code == 2
    assert "signals: is not set" in tested.err


# Tests by a verification event.


@dataclass
class Management:
    """A transmitter's verification endpoint.

    Attributes:
        url: of it.
        status: that it answers.
        requests: bodies, and the header Authorization, in order.
    """

    url: str = ""
    status: int = 204
    requests: list[tuple[dict[str, str], str]] = field(default_factory=list)

    def verify(self, state: str) -> None:
        """Send the event."""


@contextmanager
def managing(management: Management) -> Iterator[Management]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            management.requests.append((body, self.headers["Authorization"]))
            if management.status == 204:
                management.verify(body["state"])
            self.send_response(management.status)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with listening(Handler) as url:
        management.url = f"{url}/verify"
        yield management


@asynccontextmanager
async def verified(
    folder: Path, clock: Clock, more: str = ""
) -> AsyncIterator[tuple[Site, Management]]:
    (folder / "management").write_text(f"{MANAGEMENT}\n")
    with managing(Management()) as management:
        more = (
            f'verification_url = "{management.url}"\n'
            f'management_authorization_file = "{folder}/management"\n{more}'
        )
        async with serving(folder, clock, more) as site:
            yield site, management


async def test_a_verification_event_that_arrives(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with verified(tmp_path, clock, 'stream_id = "stream-1"') as (site, management):

        def verify(state: str) -> None:
            for sent in (state, "of another test", None):
                event = {} if sent is None else {"state": sent}
                assert site.push(site.about_the_stream("verification", event)) == 202

        monkeypatch.setattr(management, "verify", verify)
        ran = await site.test()
        assert (ran.code, ran.err) == (0, "")
        assert f"A verification event of {ISSUER} with our state arrived" in ran.out
        ((body, authorization),) = management.requests
        assert (body["stream_id"], authorization) == ("stream-1", MANAGEMENT)
        assert len(body["state"]) == 32
        as_json = (await site.test("--json")).json()
        assert (as_json["kind"], as_json["passed"]) == ("verification", True)
        assert management.requests[1][0]["state"] != body["state"]


async def test_no_stream_id_is_sent_where_none_is_set(tmp_path: Path, clock: Clock) -> None:
    async with verified(tmp_path, clock) as (site, management):
        management.status = 400
        ran = await site.test()
        assert ran.code == 1
        assert "stream_id" not in management.requests[0][0]
        assert f"signals.streams[{ISSUER}]: Compare stream_id" in ran.err


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(401, "management_authorization_file"), (404, "verification_url"), (500, "own log")],
)
async def test_a_request_that_is_denied(
    tmp_path: Path, clock: Clock, status: int, remedy: str
) -> None:
    async with verified(tmp_path, clock) as (site, management):
        management.status = status
        ran = await site.test()
    assert (ran.code, ran.out) == (1, "")
    assert str(status) in ran.err
    assert remedy in ran.err
    assert "management-secret" not in ran.err


async def test_an_event_that_is_rejected_here(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with verified(tmp_path, clock) as (site, management):

        def verify(state: str) -> None:
            text = site.about_the_stream("verification", {"state": state}, aud="somebody else")
            assert site.push(text) == 400

        monkeypatch.setattr(management, "verify", verify)
        ran = await site.test("--wait-seconds", "0.1", "--json")
    assert ran.code == 1
    assert ran.json()["passed"] is False
    assert "invalid_audience" in ran.json()["detail"]
    assert f"signals.streams[{ISSUER}].audiences" in ran.err


async def test_an_event_that_does_not_arrive(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with verified(tmp_path, clock) as (site, management):

        def verify(state: str) -> None:
            # Of another test: its state is not ours.
            assert site.push(site.about_the_stream("verification", {"state": "other"})) == 202

        monkeypatch.setattr(management, "verify", verify)
        ran = await site.test("--wait-seconds", "0.1")
    assert ran.code == 1
    assert "no verification event arrived within 0.1 s" in ran.err
    assert "endpoint_url" in ran.err


async def test_a_service_with_another_configuration(tmp_path: Path, clock: Clock) -> None:
    async with verified(tmp_path, clock) as (site, management):
        other = tmp_path / "other.toml"
        other.write_text(site.config.read_text().replace(ISSUER, "https://other.example"))
        ran = await site.test(issuer="https://other.example", config=other)
        assert ran.code == 2
        assert "runs with another configuration" in ran.err
        assert not management.requests, "nothing is requested that nobody would see"


async def test_an_unknown_issuer(site: Site) -> None:
    ran = await site.test(issuer=f"{ISSUER}/")
    assert (ran.code, f"is it {ISSUER}?" in ran.err) == (2, True)
    ran = await site.test(issuer="x")
    assert (ran.code, f"there are: {ISSUER}" in ran.err) == (2, True)


# Tests by a forged token.


async def test_a_forged_token_is_rejected(site: Site) -> None:
    ran = await site.test()
    assert (ran.code, ran.err) == (0, "")
    assert f"{site.url} rejects a forged token: invalid_key." in ran.out
    assert "It does not show" in ran.out
    (stream,) = (await site.status("--json")).json()["streams"]
    assert stream["last_rejection"] is not None
    assert stream["last_event"] is None


async def test_the_authorization_of_pushes_is_presented(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "push"
    file.write_text("Bearer push-secret")
    async with serving(tmp_path, clock, f'push_authorization_file = "{file}"') as site:
        assert (await site.test()).code == 0
        other = tmp_path / "other.toml"
        other.write_text(site.config.read_text().replace(str(file), f"{file}2"))
        (tmp_path / "push2").write_text("Bearer other-secret")
        ran = await site.test(config=other)
    assert ran.code == 1
    assert "authentication_failed" in ran.err
    assert "push_authorization_file" in ran.err
    assert "secret" not in ran.err


async def test_a_receiver_without_the_stream(site: Site, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(site.config.read_text().replace(ISSUER, "https://other.example"))
    ran = await site.test(issuer="https://other.example", config=other)
    assert ran.code == 1
    assert "'invalid_issuer'. It has no such stream" in ran.err


async def test_a_receiver_that_does_not_run(tmp_path: Path) -> None:
    config = configuration(tmp_path, Sender(), free_port())
    ran = await run("signals", "test", ISSUER, "--config", str(config))
    assert ran.code == 3
    assert "signals.listen" in ran.err


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Answer(status=202), "does not verify signatures"),
        (Answer(status=404), "answers 404. Another server listens there."),
        (Answer(status=503), "answers 503. It has no keys of the stream"),
        (Answer(b"no JSON", 400), "as ''. Its log"),
        (Answer(b"[]", 400), "as ''. Its log"),
        (Answer(b'{"err": 1}', 400), "as ''. Its log"),
        (Answer(b'{"err": "invalid_request\\u001b"}', 400), r"\x1b'. Its log"),
    ],
)
async def test_other_answers(tmp_path: Path, answer: Answer, text: str) -> None:
    with serving_http() as other:
        other.answers["/signals/events"] = answer
        config = configuration(tmp_path, Sender(), int(other.url.rpartition(":")[2]))
        ran = await run("signals", "test", ISSUER, "--config", str(config))
    assert ran.code == 1
    assert text in ran.err
    assert "\x1b" not in ran.err
