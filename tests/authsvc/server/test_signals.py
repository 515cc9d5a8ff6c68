"""``[signals]`` in a running service: what is signed out is rejected, over HTTP and by polls."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx2
import pytest

from authsvc.client import AuthError
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from tests.support import commands
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.keys import jwks
from tests.support.processes import Process, spawn, until
from tests.support.scraping import Scraped, scrape
from tests.support.service import Service, serving, settings_for, store_settings
from tests.support.signals import CAEP, CLIENT, RECEIVER, SSF, Sender
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider
from tests.support.transmitter import transmitting
from tests.support.valkey import free_port, single

pytestmark = pytest.mark.anyio

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SET = {"Content-Type": "application/secevent+jwt"}


def stream_of(folder: Path, sender: Sender, **more: object) -> dict[str, object]:
    """The table of a sender's stream, with its keys in a file."""
    keys = folder / "signals.json"
    keys.write_bytes(jwks(sender.signer))
    return {
        "issuer": ISSUER,
        "audiences": [RECEIVER, CLIENT],
        "jwks_file": keys,
        "algorithms": ["ES256"],
        **more,
    }


@dataclass
class Receiving:
    """A running service that receives signals.

    Attributes:
        service: itself.
        http: a client of its receiver.
    """

    service: Service
    http: httpx2.AsyncClient

    async def reason(self, session_id: str, token: str) -> str:
        """Why a token is rejected on a session; empty where it is not."""
        try:
            await self.service.client.resolve(session_id, token, resource=RESOURCE, create=True)
        except AuthError as error:
            return error.reason.name
        return ""


@asynccontextmanager
async def receiving(
    folder: Path,
    clock: Clock,
    idp: IdentityProvider,
    stream: dict[str, object],
    *,
    store: str | Mapping[str, object] = "memory",
    **changes: object,
) -> AsyncIterator[Receiving]:
    port = free_port()
    signals = {"listen": f"127.0.0.1:{port}", "streams": [stream]}
    settings = settings_for(folder, idp, store, signals=signals, **changes)
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        serving(settings, clock) as service,
        httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}/signals", trust_env=False, timeout=TIMEOUT_SECONDS
        ) as http,
    ):
        yield Receiving(service, http)


async def test_a_logout_ends_a_providers_session(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    sender = Sender()
    async with receiving(tmp_path, clock, idp, stream_of(tmp_path, sender)) as it:
        ended, other = idp.token(sid="s1"), idp.token(sid="s2")
        nobodys, bobs = idp.token(), idp.token("bob", sid="s1b")
        tokens = {"a": ended, "b": other, "c": nobodys, "d": bobs}
        assert [await it.reason(*each) for each in tokens.items()] == [""] * 4
        logout = sender.logout_token(sid="s1")
        answer = await it.http.post("/logout", content=f"logout_token={logout}", headers=FORM)
        assert (answer.status_code, answer.content) == (200, b"")
        revoked = "TOKEN_REVOKED"
        found = [await it.reason(*each) for each in tokens.items()]
        assert found == [revoked, "", revoked, ""]
        again = await it.http.post("/logout", content=f"logout_token={logout}", headers=FORM)
        assert (again.status_code, again.json()["error"]) == (400, "invalid_request")


async def test_a_push_ends_access(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> None:
    sender = Sender()
    async with receiving(tmp_path, clock, idp, stream_of(tmp_path, sender)) as it:
        token = idp.token(sid="s1")
        assert await it.reason("a", token) == ""
        text = sender.security_event_token(event_type=f"{CAEP}credential-change")
        for _ in range(2):  # a repeated one is answered in the same way
            answer = await it.http.post("/events", content=text, headers=SET)
            assert (answer.status_code, answer.content) == (202, b"")
        assert await it.reason("a", token) == "TOKEN_REVOKED"
        clock.advance(1)
        assert await it.reason("b", idp.token(sid="s1")) == "", "a token of later"
        forged = Sender().security_event_token()
        answer = await it.http.post("/events", content=forged, headers=SET)
        assert (answer.status_code, answer.json()["err"]) == (400, "invalid_key")


async def test_signals_of_an_issuers_own_keys(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    stream: dict[str, object] = {"issuer": ISSUER, "audiences": [CLIENT]}
    async with receiving(tmp_path, clock, idp, stream) as it:
        assert await it.reason("a", idp.token(sid="s1")) == ""
        claims = {"sid": "s1", "aud": CLIENT, "jti": "1", "client_id": None}
        event: dict[str, object] = {"http://schemas.openid.net/event/backchannel-logout": {}}
        text = idp.token(claims={**claims, "events": event})
        answer = await it.http.post("/logout", content=f"logout_token={text}", headers=FORM)
        assert answer.status_code == 200
        assert await it.reason("a", idp.token(sid="s1")) == "TOKEN_REVOKED"
        # An access token is no signal.
        answer = await it.http.post(
            "/logout", content=f"logout_token={idp.token(aud=CLIENT)}", headers=FORM
        )
        assert answer.status_code == 400


async def test_polled_signals_end_access(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    sender = Sender()
    (tmp_path / "authorization").write_text("Bearer poll-secret")
    async with transmitting() as transmitter:
        stream = stream_of(
            tmp_path,
            sender,
            poll_url=transmitter.url,
            poll_authorization_file=tmp_path / "authorization",
        )
        async with receiving(tmp_path, clock, idp, stream) as it:
            token = idp.token()
            assert await it.reason("a", token) == ""
            forged = Sender().security_event_token()
            await transmitter.send(good=sender.security_event_token(), forged=forged)
            await transmitter.until_empty()
            assert await it.reason("a", token) == "TOKEN_REVOKED"
        assert transmitter.errors["forged"]["err"] == "invalid_key"
        assert {*transmitter.authorizations} == {"Bearer poll-secret"}


async def test_signals_are_counted(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> None:
    sender = Sender()
    port = free_port()
    async with receiving(
        tmp_path,
        clock,
        idp,
        stream_of(tmp_path, sender),
        metrics={"listen": f"127.0.0.1:{port}"},
    ) as it:

        async def scraped() -> dict[str, float]:
            answer = await it.http.get(f"http://127.0.0.1:{port}/metrics")
            lines = (line for line in answer.text.splitlines() if "authsvc_signal" in line)
            pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
            return {name: float(value) for name, _, value in pairs}

        def named(event: str, result: str) -> str:
            labels = f'event="{event}",issuer="{ISSUER}",result="{result}"'
            return f"authsvc_signals_total{{{labels}}}"

        before = await scraped()
        assert before[named("", "rejected")] == 0
        assert before[named("session-revoked", "unknown_subject")] == 0
        assert before[named("stream-updated", "none")] == 0
        unknown = {"format": "email", "email": "alice@example.com"}
        for text in (
            sender.security_event_token(),
            sender.security_event_token(sub_id=unknown),
            Sender().security_event_token(),
            "nonsense",
        ):
            await it.http.post("/events", content=text, headers=SET)
        after = await scraped()
        assert after[named("session-revoked", "revoked")] == 1
        assert after[named("session-revoked", "unknown_subject")] == 1
        assert after[named("", "rejected")] == 1
        assert after['authsvc_signals_total{event="",issuer="",result="rejected"}'] == 1
        assert after["authsvc_signal_seconds_count"] == 1
        assert after[f'authsvc_signal_last_time_seconds{{issuer="{ISSUER}"}}'] == clock()


async def test_every_replica_shows_whether_a_stream_is_enabled(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for interval in ("STREAMS_SECONDS", "WRITE_SECONDS"):
        monkeypatch.setattr(f"authsvc.server.housekeeping.{interval}", 0.05)
    sender, store = Sender(), store_settings(tmp_path, "redis")
    (tmp_path / "authorization").write_text("Bearer poll-secret")
    ports = {"one": free_port(), "other": free_port()}

    async def all_show(shown: Callable[[Scraped], bool]) -> None:
        for port in ports.values():
            while not shown(await scrape(f"127.0.0.1:{port}")):
                pass

    def in_state(state: str) -> Callable[[Scraped], bool]:
        def shown(scraped: Scraped) -> bool:
            found = [
                scraped.value("authsvc_signal_stream_state", issuer=ISSUER, state=each)
                for each in ("enabled", "paused", "disabled")
            ]
            assert sum(found) == 1
            return scraped.value("authsvc_signal_stream_state", issuer=ISSUER, state=state) == 1

        return shown

    async with AsyncExitStack() as running:
        transmitter = await running.enter_async_context(transmitting())
        stream = stream_of(
            tmp_path,
            sender,
            poll_url=transmitter.url,
            poll_authorization_file=tmp_path / "authorization",
        )
        for name, port in ports.items():
            (folder := tmp_path / name).mkdir()
            metrics = {"listen": f"127.0.0.1:{port}"}
            replica = await running.enter_async_context(
                receiving(folder, clock, idp, stream, store=store, metrics=metrics)
            )
        await all_show(in_state("enabled"))
        update = sender.security_event_token(
            event_type=f"{SSF}stream-updated",
            event={"status": "disabled"},
            sub_id={"format": "opaque", "id": "stream-1"},
        )
        # To one of them.
        answer = await replica.http.post("/events", content=update, headers=SET)
        assert answer.status_code == 202
        await all_show(in_state("disabled"))
        await transmitter.send(polled=sender.security_event_token())
        last_poll = "authsvc_signal_last_poll_time_seconds"
        await all_show(lambda scraped: scraped.value(last_poll, issuer=ISSUER) == clock())


async def test_signals_are_audited(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    sender = Sender()
    async with receiving(tmp_path, clock, idp, stream_of(tmp_path, sender)) as it:
        for text in (sender.security_event_token(), "nonsense"):
            await it.http.post("/events", content=text, headers=SET)
    events = [it.__dict__ for it in caplog.records if it.name == "authsvc.security"]
    found = [(it["event_type"], it["caller"], it["client_address"]) for it in events]
    assert found[1:] == [
        ("TOKENS_REVOKED", f"signals[{ISSUER}]", ""),
        ("SIGNAL_RECEIVED", f"signals[{ISSUER}]", "127.0.0.1"),
        ("SIGNAL_REJECTED", "", "127.0.0.1"),
    ]


# Processes.


@dataclass
class Program:
    """A running ``authsvc serve``.

    Attributes:
        process: itself.
        address: of its gRPC listener.
        url: of its receiver.
    """

    process: Process
    address: str
    url: str

    def push(self, text: str) -> httpx2.Response:
        """Push a SET, on a connection of its own."""
        return httpx2.post(f"{self.url}/events", content=text, headers=SET, timeout=TIMEOUT_SECONDS)

    def logout(self, text: str) -> httpx2.Response:
        """Send a logout token."""
        return httpx2.post(
            f"{self.url}/logout", data={"logout_token": text}, timeout=TIMEOUT_SECONDS
        )

    def code(self, token: str) -> str:
        """The status of a resolve on a connection of its own."""
        options = (("grpc.use_local_subchannel_pool", 1),)
        with grpc.insecure_channel(self.address, options=options) as channel:
            request = pb.ResolveSessionRequest(
                session_id="s", token=token, resource=RESOURCE, create=True
            )
            try:
                pb_grpc.AuthServiceStub(channel).ResolveSession(
                    request, timeout=TIMEOUT_SECONDS, wait_for_ready=True
                )
            except grpc.RpcError as error:
                return str(error.code().name)
        return "OK"


def configuration(folder: Path, store: str, port: int, *, more: str = "") -> Path:
    path = folder / "authsvc.toml"
    path.write_text(
        f"""
listen = "127.0.0.1:0"
resources = ["{RESOURCE}"]
drain_seconds = 0
{more}
[store]
{store}
[[issuers]]
issuer = "{ISSUER}"
algorithms = ["ES256"]
jwks_file = "{folder}/keys.json"
[signals]
listen = "127.0.0.1:{port}"
[[signals.streams]]
issuer = "{ISSUER}"
audiences = ["{RECEIVER}", "{CLIENT}"]
"""
    )
    return path


def started(
    folder: Path, running: ExitStack, sender: Sender, store: str, more: str = ""
) -> Program:
    (folder / "keys.json").write_bytes(jwks(sender.signer))
    port = free_port()
    config = configuration(folder, store, port, more=more)
    process = running.enter_context(spawn("authsvc", "serve", "--config", str(config)))
    address = str(process.wait_for("listening on", TIMEOUT_SECONDS)["address"])
    return Program(process, address, f"http://127.0.0.1:{port}/signals")


def test_workers_share_the_receivers_port(tmp_path: Path) -> None:
    sender = Sender()
    with ExitStack() as stack:
        store = f'path = "{tmp_path}/authsvc.db"'
        it = started(tmp_path, stack, sender, store, "workers = 2")
        token = sender.signer.token(time.time(), sid="s1")
        assert it.code(token) == "OK"
        text = sender.logout_token(sid="s1", iat=time.time(), exp=time.time() + 60)
        assert it.logout(text).status_code == 200
        # Sixteen connections: that all of them go to one worker happens once in 32,768 runs.
        until(lambda: {it.code(token) for _ in range(16)} == {"UNAUTHENTICATED"})
        assert {it.logout(text).status_code for _ in range(16)} == {400}, "whichever worker"
        assert it.process.output.count("receiving signals at") == 2


def test_signals_during_an_outage_are_to_be_repeated(tmp_path: Path) -> None:
    sender = Sender()
    with ExitStack() as stack:
        valkey = stack.enter_context(single(tmp_path))
        store = f'kind = "redis"\nurl = "{valkey.url}"\ntimeout_seconds = 0.5'
        it = started(tmp_path, stack, sender, store)
        token = sender.signer.token(time.time())
        until(lambda: it.code(token) == "OK")
        now = time.time()
        text = sender.security_event_token(iat=now, event={"event_timestamp": now})
        logout = sender.logout_token(iat=now, exp=now + 60)
        valkey.kill()
        for answer in (it.push(text), it.logout(logout)):
            assert (answer.status_code, answer.content) == (503, b"")
            assert int(answer.headers["retry-after"]) >= 1
        valkey.restart()
        until(lambda: it.push(text).status_code == 202)
        assert it.logout(logout).status_code == 200
        assert it.code(token) == "UNAUTHENTICATED"


def test_a_stop_does_not_wait_for_idle_senders(tmp_path: Path) -> None:
    sender = Sender()
    with ExitStack() as stack:
        it = started(tmp_path, stack, sender, 'kind = "memory"', "grace_seconds = 1000")
        with socket.create_connection(("127.0.0.1", int(it.url.split(":")[2].split("/")[0]))):
            it.process.kill(signal.SIGTERM)
            assert it.process.wait(TIMEOUT_SECONDS) == 0


def test_a_port_that_is_taken_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(jwks(Sender().signer))
    with socket.create_server(("127.0.0.1", 0)) as other, ExitStack() as stack:
        config = configuration(tmp_path, 'kind = "memory"', other.getsockname()[1])
        process = stack.enter_context(spawn("authsvc", "serve", "--config", str(config)))
        assert process.wait(TIMEOUT_SECONDS) == 2
        assert "signals.listen: 127.0.0.1:" in process.output
        assert "cannot be listened on" in process.output


async def test_check_config_names_each_file(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(jwks(Sender().signer))
    config = configuration(tmp_path, 'kind = "memory"', 50054)
    assert (await commands.run("check-config", "--config", config)).code == 0
    stream = f"signals.streams[{ISSUER}]"
    config.write_text(
        config.read_text().replace('listen = "127.0.0.1:50054"', 'listen = "0.0.0.0:50054"')
        + f"""
algorithms = ["ES256"]
jwks_file = "{tmp_path}/none.json"
ca_file = "{tmp_path}/none.pem"
poll_url = "https://idp.example/poll"
poll_authorization_file = "{tmp_path}/poll"
push_authorization_file = "{tmp_path}/push"
verification_url = "https://idp.example/verify"
management_authorization_file = "{tmp_path}/manage"
[tls]
certificate_file = "{tmp_path}/none.pem"
key_file = "{tmp_path}/none.key"
"""
    )
    ran = await commands.run("check-config", "--config", config)
    assert ran.code == 2
    for setting in (
        f"{stream}.jwks_file: ",
        f"{stream}.poll_authorization_file: ",
        f"{stream}.push_authorization_file: ",
        f"{stream}.management_authorization_file: ",
        "tls.certificate_file: ",
    ):
        assert setting in ran.err
    (tmp_path / "poll").write_text("Bearer x")
    ran = await commands.run("check-config", "--config", config)
    assert f"{stream}.ca_file: " in ran.err
