"""``authsvc doctor`` on ``[signals]``: the receiver, keys of streams, and what these received."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from authsvc.client import ClientTls
from authsvc.diagnosis import Check, Finding, Level, diagnose
from authsvc.diagnosis.forged_signals import send_forged
from authsvc.diagnosis.signal_receivers import receiver_of
from authsvc.diagnosis.signals import checks
from authsvc.diagnosis.signals import running as running_check
from authsvc.server.config import Settings
from authsvc.server.running import running
from tests.authsvc.rpc.test_signal_streams import STREAM_UPDATED, push, receiving
from tests.authsvc.server.test_signals import stream_of
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.commands import PATIENT, run
from tests.support.http import Answer, serving_http
from tests.support.keys import jwks
from tests.support.operators import clients, settings, write_tls
from tests.support.service import settings_for
from tests.support.signals import CLIENT, Sender
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider
from tests.support.valkey import free_port

pytestmark = pytest.mark.anyio


def with_stream(
    folder: Path, idp: IdentityProvider, listen: str = "", **stream: object
) -> Settings:
    """A stream with the keys of the token issuer, unless it has its own."""
    table = {"issuer": ISSUER, "audiences": [CLIENT], **stream}
    signals = {"listen": listen or f"127.0.0.1:{free_port()}", "streams": [table]}
    return settings_for(folder, idp, signals=signals)


async def found(*given: Check) -> list[Finding]:
    return [it async for it in diagnose(given, timeout_seconds=TIMEOUT_SECONDS)]


async def test_without_signals(tmp_path: Path, idp: IdentityProvider) -> None:
    assert checks(settings_for(tmp_path, idp)) == []


async def test_a_receiver(tmp_path: Path, idp: IdentityProvider, clock: Clock) -> None:
    settings = with_stream(tmp_path, idp)
    assert settings.signals is not None
    url = f"http://{settings.signals.listen}/signals/events"
    async with running(settings, clock=clock):
        (receiver,) = await found(*checks(settings))
    assert (receiver.level, receiver.text) == (Level.OK, f"{url} receives signals of 1 providers")
    # It has ended.
    (receiver,) = await found(*checks(settings))
    assert (receiver.level, receiver.text) == (Level.FAIL, f"{url}: Connection refused")
    assert "signals.listen" in receiver.remedy


async def test_another_server(tmp_path: Path, idp: IdentityProvider) -> None:
    with serving_http() as other:
        settings = with_stream(tmp_path, idp, other.url.removeprefix("http://"))
        (receiver,) = await found(*checks(settings))
    assert receiver.level is Level.FAIL
    assert "answers 404 to a GET, not 405" in receiver.text


async def test_a_receiver_that_other_machines_reach(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    tls = write_tls(tmp_path / "tls")
    given, url = receiving(settings(tmp_path, tls, idp), stream_of(tmp_path, Sender()))
    assert given.signals is not None
    port = url.rpartition(":")[2].partition("/")[0]
    table = given.signals.model_copy(update={"listen": f"0.0.0.0:{port}"})
    given = given.model_copy(update={"signals": table})
    other = write_tls(tmp_path / "other")
    async with running(given, clock=clock):
        receiver, _ = await found(*checks(given))
        forged = await send_forged(receiver_of(given, table), table.streams[0], "ES256")
        pair = {"certificate_file": other / "server.pem", "key_file": other / "server.key"}
        assert given.tls is not None
        strange = given.model_copy(update={"tls": given.tls.model_copy(update=pair)})
        untrusted, _ = await found(*checks(strange))
    assert receiver.level is Level.OK
    assert receiver.text.startswith(f"https://127.0.0.1:{port}/")
    assert forged.is_rejected
    assert untrusted.level is Level.FAIL
    assert "certificate" in untrusted.text


@pytest.mark.parametrize("types", [["none", "JWT"], ["None"], [""], ["JWT"], ["secevent+jwt"]])
async def test_a_forged_token_has_an_accepted_type(
    tmp_path: Path, idp: IdentityProvider, clock: Clock, types: list[str]
) -> None:
    stream = stream_of(tmp_path, Sender(), accepted_types=types)
    given, _ = receiving(settings_for(tmp_path, idp), stream)
    assert given.signals is not None
    async with running(given, clock=clock):
        receiver = receiver_of(given, given.signals)
        forged = await send_forged(receiver, given.signals.streams[0], "ES256")
    assert forged.is_rejected, forged.text


async def test_keys_of_a_file(tmp_path: Path, idp: IdentityProvider) -> None:
    keys = tmp_path / "signals.json"
    keys.write_bytes(jwks(Sender().signer))
    given = with_stream(tmp_path, idp, jwks_file=keys, algorithms=["ES256"])
    _, of_keys = await found(*checks(given))
    assert (of_keys.level, of_keys.text) == (
        Level.OK,
        f"{ISSUER}: keys of signals: 1, by signals.streams[{ISSUER}].jwks_file",
    )
    keys.write_text("{}")
    _, of_keys = await found(*checks(given))
    assert of_keys.level is Level.FAIL
    assert str(keys) in of_keys.text


async def test_keys_of_a_url(tmp_path: Path, idp: IdentityProvider) -> None:
    with serving_http() as server:
        server.answers["/keys"] = Answer(jwks(Sender().signer))
        given = with_stream(tmp_path, idp, jwks_url=f"{server.url}/keys", algorithms=["ES256"])
        _, of_keys = await found(*checks(given))
        assert of_keys.level is Level.OK
        given = with_stream(tmp_path, idp, jwks_url=f"{server.url}/none", algorithms=["ES256"])
        _, of_keys = await found(*checks(given))
    assert of_keys.level is Level.FAIL
    assert f"{server.url}/none: answered 404" in of_keys.text
    assert of_keys.remedy.startswith("Correct jwks_url, or what is served there.")
    assert "answers 503 without any" in of_keys.remedy


async def test_keys_that_cannot_be_used(tmp_path: Path, idp: IdentityProvider) -> None:
    with serving_http() as server:
        server.answers["/keys"] = Answer(b'{"keys": []}')
        given = with_stream(tmp_path, idp, jwks_url=f"{server.url}/keys", algorithms=["ES256"])
        _, of_keys = await found(*checks(given))
    assert of_keys.level is Level.FAIL


async def test_the_endpoints_of_a_transmitter(tmp_path: Path, idp: IdentityProvider) -> None:
    for name in ("poll", "management"):
        (tmp_path / name).write_text("Bearer secret")
    with serving_http() as server:
        given = with_stream(
            tmp_path,
            idp,
            poll_url=f"{server.url}/poll",
            poll_authorization_file=tmp_path / "poll",
            verification_url=f"http://127.0.0.1:{free_port()}/verify",
            management_authorization_file=tmp_path / "management",
        )
        _, poll, verification = await found(*checks(given))
        assert server.requests == [], "nothing is requested"
    assert (poll.level, poll.text) == (Level.OK, f"{ISSUER}: poll_url is reachable")
    assert verification.level is Level.FAIL
    assert f"signals.streams[{ISSUER}].verification_url" in verification.remedy


async def test_what_a_running_service_says(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    tls, sender = write_tls(tmp_path / "tls"), Sender()
    given, url = receiving(settings(tmp_path, tls, idp), stream_of(tmp_path, sender))
    async with running(given, clock=clock) as address, clients(address, tls):
        how = ClientTls(tls / "ca.pem", service_token_file=tls / "operator")
        check = running_check(address, how, TIMEOUT_SECONDS)
        (nothing,) = await found(check)
        assert await asyncio.to_thread(push, url, sender.security_event_token()) == 202
        (received,) = await found(check)
        about = {"format": "opaque", "id": "stream-1"}
        text = sender.security_event_token(
            event_type=STREAM_UPDATED, event={"status": "disabled"}, sub_id=about
        )
        assert await asyncio.to_thread(push, url, text) == 202
        (disabled,) = await found(check)
    assert (nothing.level, received.level, disabled.level) == (Level.NOTE, Level.OK, Level.WARN)
    assert disabled.text == f"{ISSUER}: its transmitter has disabled it"


async def test_the_command_reports_them(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    sender = Sender()
    (tmp_path / "keys.json").write_bytes(jwks(sender.signer))
    config = tmp_path / "authsvc.toml"
    config.write_text(
        f"""
listen = "unix:{tmp_path}/authsvc.sock"
resources = ["{RESOURCE}"]
store = {{ kind = "memory" }}
[[issuers]]
issuer = "{ISSUER}"
algorithms = ["ES256"]
jwks_file = "{tmp_path}/keys.json"
[signals]
listen = "127.0.0.1:{free_port()}"
streams = [{{ issuer = "{ISSUER}", audiences = ["{CLIENT}"] }}]
"""
    )
    ran = await run("doctor", "--config", str(config), "--json", *PATIENT)
    findings = {it["subject"]: it for it in ran.json()["findings"]}
    assert findings["signals"]["level"] == "fail"
    assert "Connection refused" in findings["signals"]["text"]
