"""The receiver over HTTP and HTTPS: what is accepted, and every other answer."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from authsvc.common.settings import ConfigError
from authsvc.domain.errors import AuthError, Reason
from authsvc.http_server.settings import ConnectionSettings
from authsvc.net.development_certificates import write_development_certificates
from authsvc.server.config import Settings
from authsvc.signals.errors import SignalError, SignalErrorCode, invalid_request
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.service import settings_for
from tests.support.signal_receiver import Served, endpoint
from tests.support.tokens import ISSUER, IdentityProvider

pytestmark = pytest.mark.anyio

TOKEN = "header.payload.signature"
LOOPBACK = "127.0.0.1"

BEGUN = (
    b"POST /signals/events HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n"
    b"Content-Type: application/secevent+jwt\r\n\r\nx"
)
"""A request whose body is not complete."""


def configured(folder: Path, stream: dict[str, object] | None = None, **table: object) -> Settings:
    streams = [{"issuer": ISSUER, "audiences": ["us"], **(stream or {})}]
    signals = {"listen": f"{LOOPBACK}:0", "streams": streams, **table}
    tls = {"certificate_file": folder / "server.pem", "key_file": folder / "server.key"}
    has_tls = not str(signals["listen"]).startswith(LOOPBACK)
    return settings_for(
        folder, IdentityProvider(), signals=signals, **({"tls": tls} if has_tls else {})
    )


async def reported(served: Served) -> list[tuple[str, SignalError, str]]:
    """What the endpoint has reported as rejected. It does so from its own thread, in order, before
    it answers."""
    called = asyncio.Event()
    asyncio.get_running_loop().call_soon_threadsafe(called.set)
    await called.wait()
    return served.receiver.rejected


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with endpoint(configured(tmp_path)) as running:
        yield running


# What is accepted.


async def test_a_logout_token_is_received(served: Served) -> None:
    answer = await served.logout(f"logout_token={TOKEN}")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["cache-control"] == "no-store"
    assert served.receiver.received == [("logout", TOKEN, LOOPBACK)]


async def test_a_security_event_token_is_received(served: Served) -> None:
    answer = await served.push(TOKEN)
    assert (answer.status_code, answer.content) == (202, b"")
    assert answer.headers["cache-control"] == "no-store"
    assert served.receiver.received == [("set", TOKEN, LOOPBACK)]


@pytest.mark.parametrize(
    "body",
    [
        f"a=b&logout_token={TOKEN}&client_id=x&empty=&bare",
        f"logout_token={TOKEN}%0D%0A",
        "logout_token=header%2Epayload%2Esignature",
        f"logout_token={TOKEN}&LOGOUT_TOKEN=x&logout_token[]=y",
    ],
)
async def test_what_else_a_form_has_is_ignored(served: Served, body: str) -> None:
    assert (await served.logout(body)).status_code == 200
    assert served.receiver.received == [("logout", TOKEN, LOOPBACK)]


@pytest.mark.parametrize(
    "kind", ["APPLICATION/SECEVENT+JWT", 'application/secevent+jwt; charset="UTF-8"']
)
async def test_a_type_in_another_spelling_is_the_same(served: Served, kind: str) -> None:
    answer = await served.push(f"{TOKEN}\n", **{"Content-Type": kind})
    assert answer.status_code == 202
    assert served.receiver.received == [("set", TOKEN, LOOPBACK)]


async def test_a_body_in_chunks_is_received(served: Served) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for part in ("logout_", "token=", TOKEN):
            yield part.encode()

    answer = await served.http.post(
        "/signals/logout",
        content=chunks(),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert answer.status_code == 200
    assert served.receiver.received == [("logout", TOKEN, LOOPBACK)]


# What is not a signal.


@pytest.mark.parametrize(
    "body",
    [
        "",
        f"token={TOKEN}",
        f"logout_token={TOKEN}&logout_token={TOKEN}",
        f"logout_token={TOKEN}&logout_token=",
        "logout_token=%ff",
        b"logout_token=\xff",
        "&".join(["a=b"] * 40),
    ],
    ids=["empty", "other", "twice", "twice, empty", "not UTF-8", "bytes", "many"],
)
async def test_a_form_has_one_token(served: Served, body: str | bytes) -> None:
    answer = await served.logout(body)
    assert answer.status_code == 400
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()
    assert found["error"] == "invalid_request"
    assert "logout_token" in found["error_description"] or "form" in found["error_description"]
    assert served.receiver.received == []
    ((issuer, error, address),) = await reported(served)
    assert (issuer, error.description, address) == ("", found["error_description"], LOOPBACK)


async def test_a_token_in_the_query_is_none(served: Served) -> None:
    answer = await served.http.post(
        f"/signals/logout?logout_token={TOKEN}",
        content="",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert answer.status_code == 400
    assert served.receiver.received == []


async def test_a_set_is_ascii(served: Served) -> None:
    answer = await served.push("é")
    assert answer.status_code == 400
    assert answer.headers["content-language"] == "en"
    assert answer.json() == {"err": "invalid_request", "description": "The body is not a JWT."}


@pytest.mark.parametrize("path", ["/signals/logout", "/signals/events"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"])
async def test_there_are_no_other_methods(served: Served, path: str, method: str) -> None:
    answer = await served.http.request(method, path, params={"logout_token": TOKEN})
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert served.receiver.received == []


@pytest.mark.parametrize(
    "path", ["/", "/signals", "/signals/logout/", "/Signals/logout", "/metrics"]
)
async def test_there_is_nothing_else(served: Served, path: str) -> None:
    answer = await served.http.post(path, content=TOKEN)
    assert answer.status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Content-Type", "application/json")],
        [("Content-Type", "application/jwt")],
        [("Content-Type", "")],
        [("Content-Type", "multipart/form-data; boundary=x")],
        [("Content-Type", "{} ; charset=iso-8859-1")],
        [("Content-Type", "{}"), ("Content-Encoding", "gzip")],
        [("Content-Type", "{}"), ("Content-Type", "{}")],
    ],
    ids=["none", "JSON", "JWT", "empty", "multipart", "charset", "coding", "two"],
)
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/signals/logout", "application/x-www-form-urlencoded"),
        ("/signals/events", "application/secevent+jwt"),
    ],
)
async def test_a_body_of_another_type_is_not_read(
    served: Served, path: str, kind: str, headers: list[tuple[str, str]]
) -> None:
    given = [(name, value.replace("{}", kind)) for name, value in headers]
    answer = await served.http.post(path, content=f"logout_token={TOKEN}", headers=given)
    assert answer.status_code == 415
    assert kind in next(value for name, value in answer.json().items() if "description" in name)
    assert served.receiver.received == []


async def test_the_types_are_not_interchangeable(served: Served) -> None:
    assert (
        await served.logout(TOKEN, **{"Content-Type": "application/secevent+jwt"})
    ).status_code == 415
    assert (
        await served.push(
            f"logout_token={TOKEN}", **{"Content-Type": "application/x-www-form-urlencoded"}
        )
    ).status_code == 415


@pytest.mark.parametrize("path", ["/signals/logout", "/signals/events"])
@pytest.mark.parametrize("is_declared", [True, False])
async def test_a_long_body_is_rejected(tmp_path: Path, path: str, is_declared: bool) -> None:
    kind = "application/secevent+jwt" if "events" in path else "application/x-www-form-urlencoded"
    body = b"logout_token=" + b"x" * 1_024

    async def chunks() -> AsyncIterator[bytes]:
        yield body[:600]
        yield body[600:]

    async with endpoint(configured(tmp_path, max_body_bytes=1_024)) as served:
        answer = await served.http.post(
            path, content=body if is_declared else chunks(), headers={"Content-Type": kind}
        )
        assert answer.status_code == 413
        fits = await served.http.post(path, content=body[:1_024], headers={"Content-Type": kind})
        assert fits.status_code in {200, 202}
        assert len(served.receiver.received) == 1


# Answers of the processing.


async def test_a_rejected_signal_is_answered_with_its_code(served: Served) -> None:
    served.receiver.failure = SignalError(
        SignalErrorCode.INVALID_KEY, "The key is not known.", detail="kid 'secret'"
    )
    answer = await served.push(TOKEN)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"err": "invalid_key", "description": "The key is not known."}
    answer = await served.logout(f"logout_token={TOKEN}")
    assert answer.status_code == 400
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "error": "invalid_key",
        "error_description": "The key is not known.",
    }


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason.STORE_UNAVAILABLE, 503),
        (Reason.KEYS_UNAVAILABLE, 503),
        (Reason.CONFLICT, 503),
        (Reason.OVERLOADED, 429),
    ],
)
async def test_a_signal_that_is_not_durable_is_to_be_repeated(
    served: Served, reason: Reason, status: int
) -> None:
    served.receiver.failure = AuthError(reason, retry_after_seconds=2.5)
    for answer in (await served.push(TOKEN), await served.logout(f"logout_token={TOKEN}")):
        assert (answer.status_code, answer.content) == (status, b"")
        assert answer.headers["retry-after"] == "3"


async def test_a_bug_is_logged_without_its_message(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.receiver.failure = RuntimeError(f"about {TOKEN}")
    with caplog.at_level(logging.DEBUG):
        answer = await served.push(TOKEN)
    assert (answer.status_code, answer.content) == (500, b"")
    assert "a signal failed unexpectedly: RuntimeError" in caplog.text
    assert TOKEN not in caplog.text


# Limits.


async def test_the_requests_of_all_senders_have_a_rate(tmp_path: Path) -> None:
    table: dict[str, object] = {"requests_per_second": 0.001, "requests_burst": 2}
    async with endpoint(configured(tmp_path, {}, **table)) as served:
        served.receiver.failure = invalid_request("No.")
        assert (await served.push(TOKEN)).status_code == 400
        assert (await served.logout(f"logout_token={TOKEN}")).status_code == 400
        for answer in (await served.push(TOKEN), await served.logout(f"logout_token={TOKEN}")):
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) > 900
        assert len(served.receiver.received) == 2
        await reported(served)
        assert served.receiver.refused == [("requests_per_second", LOOPBACK)]


async def test_a_flood_does_not_keep_senders_out_whose_signals_were_accepted(
    tmp_path: Path,
) -> None:
    """Who has no key may have many addresses."""
    table: dict[str, object] = {
        "requests_per_second": 0.001,
        "requests_burst": 3,
        "client_address_header": "x-sender",
    }
    async with endpoint(configured(tmp_path, {}, **table)) as served:

        async def send(sender: str, text: str = TOKEN) -> int:
            return (await served.push(text, **{"X-Sender": sender})).status_code

        assert await send("192.0.2.1") == 202
        assert await send("192.0.2.2") == 202  # a repeated one, which anyone may have seen
        served.receiver.failure = invalid_request("No.")
        assert [await send(f"192.0.2.{number}") for number in (7, 8, 9)] == [400, 429, 429]
        served.receiver.failure = None
        assert await send("192.0.2.2", "d.e.f") == 429
        assert [await send("192.0.2.1", f"d.e.{n}") for n in range(4)] == [202, 202, 202, 429]


async def test_a_sender_of_logout_tokens_is_accepted_too(tmp_path: Path) -> None:
    table: dict[str, object] = {"requests_per_second": 0.001, "requests_burst": 1}
    async with endpoint(configured(tmp_path, {}, **table)) as served:
        found = [(await served.logout(f"logout_token=a.b.{n}")).status_code for n in range(3)]
        assert found == [200, 200, 429], "one of the shared budget, one of its own"


@pytest.mark.parametrize("what", ["rejected", "malformed", "long", "typed"])
async def test_a_sender_of_rejected_signals_is_not_heard(tmp_path: Path, what: str) -> None:
    table: dict[str, object] = {
        "rejected_per_second_per_client": 0.001,
        "rejected_burst_per_client": 2,
        "requests_per_second": 0.001,
        "requests_burst": 3,
        "client_address_header": "x-sender",
    }
    async with endpoint(configured(tmp_path, {}, **table)) as served:
        served.receiver.failure = invalid_request("No.")

        async def send() -> int:
            bad = {"X-Sender": "192.0.2.1"}
            if what == "rejected":
                return (await served.push(TOKEN, **bad)).status_code
            if what == "malformed":
                return (await served.logout("a=b", **bad)).status_code
            if what == "long":
                return (await served.push("x" * 70_000, **bad)).status_code
            return (await served.push(TOKEN, **bad, **{"Content-Type": "text/plain"})).status_code

        status = {"long": 413, "typed": 415}.get(what, 400)
        assert [await send() for _ in range(4)] == [status, status, 429, 429]
        assert len(await reported(served)) == (0 if what == "rejected" else 2)
        assert served.receiver.refused == [("rejected_per_second_per_client", "192.0.2.1")]
        # What it sends beyond its budget takes nothing from the others.
        served.receiver.failure = None
        other = await served.push(TOKEN, **{"X-Sender": "192.0.2.2"})
        assert other.status_code == 202
        assert served.receiver.received[-1] == ("set", TOKEN, "192.0.2.2")


async def test_reports_of_what_is_rejected_have_a_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authsvc.signals.endpoint.REJECTED_PER_SECOND", 0.001)
    monkeypatch.setattr("authsvc.signals.endpoint.REJECTED_BURST", 2.0)
    async with endpoint(configured(tmp_path)) as served:
        assert [(await served.logout("a=b")).status_code for _ in range(4)] == [400] * 4
        assert len(await reported(served)) == 2


async def test_a_sender_that_leaves_counts_as_rejected(tmp_path: Path) -> None:
    table: dict[str, object] = {
        "rejected_per_second_per_client": 0.001,
        "rejected_burst_per_client": 1,
    }
    async with endpoint(configured(tmp_path, {}, **table)) as served:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            host, port = served.address.split(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(BEGUN)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            while (await served.push(TOKEN)).status_code != 429:
                pass
        assert served.receiver.failure is None


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ([], LOOPBACK),
        ([("X-Sender", "192.0.2.1")], "192.0.2.1"),
        ([("X-Sender", "2001:DB8::1%eth0")], "2001:db8::1"),
        ([("X-Sender", "nonsense")], LOOPBACK),
        ([("X-Sender", "192.0.2.1, 192.0.2.2")], LOOPBACK),
        ([("X-Sender", "192.0.2.1"), ("X-Sender", "192.0.2.2")], LOOPBACK),
    ],
)
async def test_the_senders_address_is_the_proxys_word(
    tmp_path: Path, headers: list[tuple[str, str]], address: str
) -> None:
    async with endpoint(configured(tmp_path, client_address_header="x-sender")) as served:
        given = [("Content-Type", "application/secevent+jwt"), *headers]
        answer = await served.http.post("/signals/events", content=TOKEN, headers=given)
        assert answer.status_code == 202
        assert served.receiver.received == [("set", TOKEN, address)]


async def test_without_the_setting_no_header_counts(served: Served) -> None:
    await served.push(TOKEN, **{"X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.1"})
    assert served.receiver.received == [("set", TOKEN, LOOPBACK)]


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /signals/events HT",
        BEGUN,
    ],
    ids=["silent", "head", "body"],
)
async def test_a_slow_sender_is_disconnected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    quick = ConnectionSettings(header_timeout_seconds=0.1, request_timeout_seconds=0.1)
    monkeypatch.setattr("authsvc.server.signal_receiver.CONNECTIONS", quick)
    async with endpoint(configured(tmp_path)) as served, asyncio.timeout(TIMEOUT_SECONDS):
        host, port = served.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 408") if sent else answer == b""
        assert served.receiver.received == []


# The Authorization of pushes.


def authorized(folder: Path) -> Settings:
    (folder / "push").write_text("Bearer s3cret\n")
    return configured(folder, {"push_authorization_file": folder / "push"})


def pushed(issuer: str = ISSUER) -> str:
    return IdentityProvider(issuer=issuer).token()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Bearer s3cret"], 202),
        (["bearer  s3cret"], 202),
        ([], 400),
        (["Bearer s3cre"], 400),
        (["Bearer S3CRET"], 400),
        (["Basic s3cret"], 400),
        (["s3cret"], 400),
        (["Bearer s3cret", "Bearer s3cret"], 400),
    ],
)
async def test_a_push_has_the_expected_authorization(
    tmp_path: Path, headers: list[str], status: int
) -> None:
    async with endpoint(authorized(tmp_path)) as served:
        given = [("Content-Type", "application/secevent+jwt")]
        given += [("Authorization", value) for value in headers]
        answer = await served.http.post("/signals/events", content=pushed(), headers=given)
        assert answer.status_code == status
        assert bool(served.receiver.received) == (status == 202)
        if status == 400:
            assert answer.json()["err"] == "authentication_failed"
            assert "s3cret" not in answer.text
        setting = f"signals.streams[{ISSUER}].push_authorization_file"
        assert [(it[0], it[1].setting, it[2]) for it in await reported(served)] == (
            [(ISSUER, setting, LOOPBACK)] if status == 400 else []
        )


@pytest.mark.parametrize("text", [TOKEN, "a.b", "x", pushed("https://other.example")])
async def test_what_is_of_no_such_stream_is_for_the_processing(tmp_path: Path, text: str) -> None:
    async with endpoint(authorized(tmp_path)) as served:
        assert (await served.push(text)).status_code == 202
        assert served.receiver.received == [("set", text, LOOPBACK)]


async def test_a_logout_token_needs_no_authorization(tmp_path: Path) -> None:
    async with endpoint(authorized(tmp_path)) as served:
        assert (await served.logout(f"logout_token={pushed()}")).status_code == 200


async def test_a_changed_authorization_takes_effect(tmp_path: Path) -> None:
    async with endpoint(authorized(tmp_path)) as served:
        (tmp_path / "push").write_text("Bearer another")
        assert (await served.push(pushed(), Authorization="Bearer s3cret")).status_code == 400
        assert (await served.push(pushed(), Authorization="Bearer another")).status_code == 202
        (tmp_path / "push").unlink()
        answer = await served.push(pushed(), Authorization="Bearer another")
        assert answer.status_code == 503
        assert "retry-after" in answer.headers


async def test_an_authorization_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    settings = authorized(tmp_path)
    (tmp_path / "push").unlink()
    with pytest.raises(ConfigError, match=r"signals.streams\[https://idp.example\].push_auth"):
        async with endpoint(settings):
            pass


# The server.


def trusting(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=folder / "ca.pem")


async def test_it_is_served_over_https(tmp_path: Path) -> None:
    write_development_certificates(tmp_path, client_name="spiffe://dev/client")
    settings = configured(tmp_path, listen="0.0.0.0:0")
    async with endpoint(settings, trusting(tmp_path)) as served:
        assert (await served.push(TOKEN)).status_code == 202
        assert (await served.logout(f"logout_token={TOKEN}")).status_code == 200
        with pytest.raises(httpx2.HTTPError):
            await served.http.post(f"http://{served.address}/signals/events", content=TOKEN)


@pytest.mark.usefixtures("files_always_checked")
async def test_a_changed_certificate_takes_effect(tmp_path: Path) -> None:
    write_development_certificates(tmp_path, client_name="spiffe://dev/client")
    settings = configured(tmp_path, listen="0.0.0.0:0")
    async with endpoint(settings, trusting(tmp_path)) as served:
        assert (await served.push(TOKEN)).status_code == 202
        write_development_certificates(tmp_path, client_name="spiffe://dev/client")
        async with httpx2.AsyncClient(verify=trusting(tmp_path), trust_env=False) as http:
            answer = await http.post(
                f"https://localhost:{served.address.split(':')[1]}/signals/events",
                content=TOKEN,
                headers={"Content-Type": "application/secevent+jwt"},
                timeout=TIMEOUT_SECONDS,
            )
        assert answer.status_code == 202


async def test_certificates_that_cannot_be_read_stop_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tls\.certificate_file"):
        async with endpoint(configured(tmp_path, listen="0.0.0.0:0")):
            pass


async def test_an_address_that_is_taken_stops_the_start(tmp_path: Path, served: Served) -> None:
    with pytest.raises(ConfigError, match=r"signals\.listen: .* cannot be listened on"):
        async with endpoint(configured(tmp_path, listen=served.address)):
            pass


async def test_a_signal_in_flight_is_answered_at_a_stop(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.receiver.hold.clear()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        pushing = asyncio.create_task(served.push(TOKEN))
        await served.receiver.arrived.wait()
        caplog.set_level(logging.INFO, "uvicorn.error")
        served.stopping.set()
        while "Waiting for connections to close" not in caplog.text:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0)
        assert not pushing.done()
        served.receiver.hold.set()
        assert (await pushing).status_code == 202
