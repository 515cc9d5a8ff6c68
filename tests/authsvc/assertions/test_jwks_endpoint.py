"""The JWK Set over HTTP and HTTPS, as a running service publishes it, and PyJWT over it."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest

from authsvc.assertions.jwks_endpoint import jwks_application
from authsvc.assertions.key_ring import MAX_AGE_SECONDS, replace_keys
from authsvc.assertions.key_set import DAY_SECONDS
from authsvc.assertions.sealing import NoSeal
from authsvc.assertions.signer import Assertions
from authsvc.common.settings import ConfigError
from authsvc.common.wsgi_serving import MAX_CONNECTIONS, served
from authsvc.net.addresses import split
from authsvc.net.development_certificates import write_development_certificates
from authsvc.net.served_context import ServedContext
from authsvc.server.assembly import Service, assembled
from authsvc.server.config import Settings
from tests.authsvc.assertions.test_sealing import OTHER, secret_file
from tests.authsvc.assertions.test_signer import ALICE, FILES, ISSUER, MAIL, SESSION, TOKEN, of
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.service import settings_for
from tests.support.sockets import serving_tcp
from tests.support.tokens import IdentityProvider

pytestmark = pytest.mark.anyio

PATH = "/.well-known/jwks.json"
LASTING = of(replace(ALICE, expire_time=4e9), replace(SESSION, expire_time=4e9))


@asynccontextmanager
async def publishing(
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    clock: Callable[[], float],
    listen: str = "127.0.0.1:0",
    **changes: object,
) -> AsyncIterator[tuple[Service, Assertions, str]]:
    """A service with ``[assertions]``, and the address of its JWK Set."""
    table = {"issuer": ISSUER, "listen": listen, **changes}
    settings = settings_for(folder, IdentityProvider(clock), assertions=table)
    async with running(settings, caplog, clock) as made:
        yield made


@asynccontextmanager
async def running(
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    clock: Callable[[], float],
) -> AsyncIterator[tuple[Service, Assertions, str]]:
    caplog.clear()
    with caplog.at_level(logging.INFO):
        async with assembled(settings, clock) as service:
            assert service.assertions is not None
            (address,) = (
                record.__dict__["address"]
                for record in caplog.records
                if "keys of assertions at" in record.getMessage()
            )
            yield service, service.assertions, address


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def asked(
    address: str, method: str = "GET", path: str = PATH, **headers: str
) -> httpx2.Response:
    async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
        return await client.request(method, f"http://{address}{path}", headers=headers)


async def test_it_has_the_public_keys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    async with publishing(tmp_path, caplog, clock) as (_, assertions, address):
        answer = await asked(address)
        assert answer.status_code == 200
        assert answer.content == assertions.jwks()
        assert answer.headers["content-type"] == "application/jwk-set+json"
        assert answer.headers["cache-control"] == "public, max-age=300"
        (key,) = answer.json()["keys"]
        assert set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"}


async def test_head_has_the_headers_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    async with publishing(tmp_path, caplog, clock) as (_, assertions, address):
        got, head = await asked(address), await asked(address, "HEAD")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(assertions.jwks()))
        for name in ("etag", "cache-control", "content-type"):
            assert head.headers[name] == got.headers[name]


async def test_head_sends_no_content(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    async with publishing(tmp_path, caplog, clock) as (_, _, address):
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"HEAD {PATH} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        async with asyncio.timeout(TIMEOUT_SECONDS):
            received = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert received.startswith(b"HTTP/1.0 200 OK\r\n")
    assert received.endswith(b"\r\n\r\n")
    assert b"keys" not in received


async def test_what_is_unchanged_is_not_sent_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    async with publishing(tmp_path, caplog, clock) as (service, assertions, address):
        tag = (await asked(address)).headers["etag"]
        for condition in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            answer = await asked(address, **{"if-none-match": condition})
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == tag
            assert answer.headers["cache-control"] == "public, max-age=300"
        assert (await asked(address, **{"if-none-match": '"other"'})).status_code == 200
        await replace_keys(service.store, NoSeal(), clock())
        await assertions.keys.refresh()
        changed = await asked(address, **{"if-none-match": tag})
        assert changed.status_code == 200
        assert changed.headers["etag"] != tag


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", PATH, 405),
        ("PUT", PATH, 405),
        ("OPTIONS", PATH, 405),
        ("GET", "/", 404),
        ("GET", "/jwks.json", 404),
        ("GET", f"{PATH}/", 404),
        ("POST", "/metrics", 404),
    ],
)
async def test_there_is_nothing_else(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    clock: Clock,
    method: str,
    path: str,
    status: int,
) -> None:
    async with publishing(tmp_path, caplog, clock) as (_, _, address):
        answer = await asked(address, method, path)
        assert (answer.status_code, answer.content) == (status, b"")
        assert answer.headers["cache-control"] == "no-store"
        assert ("allow" in answer.headers) == (status == 405)


async def test_old_keys_are_not_published(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    async with publishing(tmp_path, caplog, clock) as (_, assertions, address):
        clock.advance(MAX_AGE_SECONDS + 1)
        answer = await asked(address)
        assert (answer.status_code, answer.content) == (503, b"")
        assert answer.headers["retry-after"] == "10"
        assert answer.headers["cache-control"] == "no-store"
        await assertions.keys.refresh()
        assert (await asked(address)).status_code == 200


async def test_a_taken_address_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    async with publishing(tmp_path, caplog, clock) as (_, _, address):
        other = tmp_path / "other"
        other.mkdir()
        with pytest.raises(ConfigError, match=r"assertions\.listen: .* cannot be listened on"):
            async with publishing(other, caplog, clock, address):
                pass


# HTTPS, where other machines can reach it.


@asynccontextmanager
async def publishing_to_others(
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    clock: Clock,
    *,
    has_certificates: bool = False,
) -> AsyncIterator[tuple[str, Callable[[], ssl.SSLContext]]]:
    """The port of a service with ``[tls]``, and what its clients trust."""
    if not has_certificates:
        write_development_certificates(folder / "tls", client_name="spiffe://dev/adapter")
    settings = settings_for(
        folder,
        IdentityProvider(clock),
        tls={
            "certificate_file": folder / "tls" / "server.pem",
            "key_file": folder / "tls" / "server.key",
        },
        assertions={"issuer": ISSUER, "listen": "0.0.0.0:0"},
    )
    async with running(settings, caplog, clock) as (_, _, address):
        port = address.rpartition(":")[2]
        yield port, lambda: ssl.create_default_context(cafile=folder / "tls" / "ca.pem")


async def fetched(port: str, context: ssl.SSLContext) -> httpx2.Response:
    async with httpx2.AsyncClient(verify=context, timeout=TIMEOUT_SECONDS) as client:
        return await client.get(f"https://localhost:{port}{PATH}")


async def test_beyond_this_machine_it_is_https(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    async with publishing_to_others(tmp_path, caplog, clock) as (port, trusting):
        assert (await fetched(port, trusting())).json()["keys"]
        with pytest.raises(httpx2.TransportError):
            await asked(f"127.0.0.1:{port}")
        with pytest.raises(httpx2.TransportError):
            await fetched(port, ssl.create_default_context())
        assert (await fetched(port, trusting())).json()["keys"]


async def test_peers_that_do_not_finish_the_handshake_keep_nobody_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    async with publishing_to_others(tmp_path, caplog, clock) as (port, trusting):
        with ExitStack() as stack:
            silent = [
                stack.enter_context(
                    socket.create_connection(("127.0.0.1", int(port)), TIMEOUT_SECONDS)
                )
                for _ in range(3 * MAX_CONNECTIONS)
            ]
            assert (await fetched(port, trusting())).json()["keys"]
            assert await asyncio.to_thread(silent[0].recv, 1) == b""
    assert "connections for assertions: the oldest ends" in caplog.text


async def test_a_certificate_without_its_key_stops_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    write_development_certificates(tmp_path / "tls", client_name="spiffe://dev/adapter")
    (tmp_path / "tls" / "server.key").write_bytes((tmp_path / "tls" / "client.key").read_bytes())
    with pytest.raises(ConfigError, match=r"^tls\.certificate_file: "):
        async with publishing_to_others(tmp_path, caplog, clock, has_certificates=True):
            pass


async def test_a_renewed_certificate_is_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authsvc.net.watched_file.WATCH_INTERVAL_SECONDS", 0.0)
    async with publishing_to_others(tmp_path, caplog, clock) as (port, trusting):
        assert (await fetched(port, trusting())).status_code == 200
        good = {
            name: (tmp_path / "tls" / name).read_bytes() for name in ("server.pem", "server.key")
        }
        (tmp_path / "tls" / "server.key").write_bytes(b"half written")
        for _ in range(3):
            assert (await fetched(port, trusting())).status_code == 200
        assert caplog.text.count("certificates cannot be reloaded") == 1
        for name, content in good.items():
            (tmp_path / "tls" / name).write_bytes(content)
        before = trusting()
        write_development_certificates(tmp_path / "tls", client_name="spiffe://dev/adapter")
        assert (await fetched(port, trusting())).status_code == 200
        with pytest.raises(httpx2.TransportError):
            await fetched(port, before)


def test_unchanged_certificates_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authsvc.net.watched_file.WATCH_INTERVAL_SECONDS", 0.0)
    write_development_certificates(tmp_path, client_name="spiffe://dev/adapter")
    served = ServedContext(tmp_path / "server.pem", tmp_path / "server.key")
    first = served()
    assert served() is first
    write_development_certificates(tmp_path, client_name="spiffe://dev/adapter")
    second = served()
    assert second is not first
    assert served() is second


# What its verifiers do.


class Verifier:
    """An MCP server in Python: PyJWT, with a client of the JWK Set."""

    def __init__(self, address: str, **options: Any) -> None:  # noqa: ANN401 - PyJWKClient's
        self.client = jwt.PyJWKClient(f"http://{address}{PATH}", timeout=TIMEOUT_SECONDS, **options)

    async def verify(self, assertion: str, audience: str = FILES) -> dict[str, Any]:
        """The claims.

        Raises:
            jwt.PyJWTError: it is not valid.
        """
        key = await asyncio.to_thread(self.client.get_signing_key_from_jwt, assertion)
        claims: dict[str, Any] = jwt.decode(
            assertion, key, algorithms=["ES256"], audience=audience, issuer=ISSUER
        )
        return claims


def make(assertions: Assertions, resource: str = FILES, token: bytes = TOKEN) -> str:
    return assertions.assertion(LASTING, resource=resource, token_digest=token)


def tampered(assertion: str, **claims: object) -> str:
    """With other claims, under the same signature."""
    head, payload, signature = assertion.split(".")
    changed = {**json.loads(jwt.utils.base64url_decode(payload)), **claims}
    encoded = jwt.utils.base64url_encode(json.dumps(changed).encode()).decode()
    return f"{head}.{encoded}.{signature}"


async def test_pyjwt_verifies_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with publishing(tmp_path, caplog, time.time) as (_, assertions, address):
        verifier, assertion = Verifier(address), make(assertions)
        assert (await verifier.verify(assertion))["sub"] == "alice"
        assert (await verifier.verify(make(assertions, MAIL), MAIL))["aud"] == MAIL
        with pytest.raises(jwt.InvalidAudienceError):
            await verifier.verify(assertion, MAIL)
        for changes in ({"sub": "bob"}, {"exp": 4_000_000_000}, {"aud": MAIL}, {"roles": ["root"]}):
            with pytest.raises(jwt.InvalidSignatureError):
                await verifier.verify(tampered(assertion, **changes))


async def test_pyjwt_rejects_one_that_has_expired(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with publishing(tmp_path, caplog, lambda: time.time() - 61) as (_, assertions, address):
        with pytest.raises(jwt.ExpiredSignatureError):
            await Verifier(address).verify(make(assertions))


async def test_a_rotation_is_not_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    offset = 0.0

    def clock() -> float:
        return time.time() + offset

    # Verified by the real time: the past is where the first key signs.
    offset = -30 * DAY_SECONDS
    async with publishing(tmp_path, caplog, clock) as (_, assertions, address):
        offset = -100.0
        await assertions.keys.refresh()
        verifier = Verifier(address)
        first = await asked(address)
        assert len(first.json()["keys"]) == 2
        old = assertions.keys.signing_key(clock()).kid
        offset = 0.0
        before = make(assertions)
        await verifier.verify(before)
        offset = DAY_SECONDS - 100.0
        await assertions.keys.refresh()
        assert assertions.keys.signing_key(clock()).kid != old
        # It has the new key from before, and verifies what either has signed.
        new = make(assertions)
        assert jwt.get_unverified_header(new)["kid"] != old
        key = await asyncio.to_thread(verifier.client.get_signing_key_from_jwt, new)
        jwt.decode(new, key, algorithms=["ES256"], audience=FILES, options={"verify_iat": False})
        await verifier.verify(before)


async def test_a_withdrawn_key_is_rejected_once_the_set_is_fetched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with publishing(tmp_path, caplog, time.time) as (service, assertions, address):
        leaked = make(assertions)
        caching = Verifier(address, cooldown_duration=0)
        await caching.verify(leaked)
        await replace_keys(service.store, NoSeal(), time.time())
        await assertions.keys.refresh()
        # An unknown kid has PyJWT fetch the set, but for its cool-down.
        await caching.verify(make(assertions))
        with pytest.raises(jwt.PyJWKClientError):
            await caching.verify(leaked)


def settings_on_disk(folder: Path, clock: Clock) -> Settings:
    """Assertions whose keys are in SQLite, encrypted."""
    return settings_for(
        folder,
        IdentityProvider(clock),
        store="sqlite",
        assertions={
            "issuer": ISSUER,
            "listen": "127.0.0.1:0",
            "encryption_key_file": secret_file(folder),
        },
    )


async def test_the_private_keys_leave_no_trace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    settings = settings_on_disk(tmp_path, clock)
    with caplog.at_level(logging.DEBUG):
        async with running(settings, caplog, clock) as (_, assertions, address):
            make(assertions)
            loaded = assertions.keys._loaded
            assert loaded is not None
            answer = await asked(address)
            shown = [caplog.text, repr(loaded), repr(assertions.keys.signing_key(clock()))]
            files = [path.read_bytes() for path in tmp_path.glob("authsvc.db*")]
    private = json.loads(loaded.keys.encoded())["keys"][0]["d"]
    scalar = jwt.utils.base64url_decode(private)
    for content in (*files, answer.content, *(text.encode() for text in shown)):
        assert private.encode() not in content
        assert scalar not in content
        assert scalar.hex().encode() not in content
    assert any(loaded.stored.content in content for content in files)


async def test_another_encryption_key_stops_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    settings = settings_on_disk(tmp_path, clock)
    async with running(settings, caplog, clock) as (_, assertions, _):
        before = assertions.jwks()
    secret_file(tmp_path, OTHER)
    with pytest.raises(ConfigError, match=r"^assertions\.encryption_key_file: .*does not decrypt"):
        async with assembled(settings, clock):
            pass
    (tmp_path / "encryption.key").unlink()
    with pytest.raises(ConfigError, match=r"^assertions\.encryption_key_file: .*No such file"):
        async with assembled(settings, clock):
            pass
    secret_file(tmp_path)
    async with running(settings, caplog, clock) as (_, assertions, _):
        assert assertions.jwks() == before


async def test_a_store_that_is_unavailable_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving_tcp(silent) as (_, port):
        settings = settings_for(
            tmp_path,
            IdentityProvider(clock),
            store={
                "kind": "redis", "url": f"redis://127.0.0.1:{port}", "timeout_seconds": 0.05,
            },
            assertions={
                "issuer": ISSUER,
                "listen": "127.0.0.1:0",
                "encryption_key_file": secret_file(tmp_path),
            },
        )  # fmt: skip
        async with running(settings, caplog, clock) as (_, _, address):
            assert (await asked(address)).status_code == 503
    assert "the keys of assertions cannot be loaded yet: STORE_UNAVAILABLE" in caplog.text


async def test_many_verifiers_may_connect_at_once() -> None:
    """Those that start together: none has to wait until its system tries again."""
    accepting = threading.Event()

    def context() -> ssl.SSLContext:
        accepting.wait(TIMEOUT_SECONDS)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def nothing() -> bytes:
        return b""

    with ExitStack() as stack:
        async with served(
            jwks_application(nothing), "127.0.0.1:0", name="", setting="", context=context
        ) as address:
            host, port = split(address)
            try:
                for _ in range(64):
                    connecting = socket.create_connection((host, port), TIMEOUT_SECONDS / 2)
                    stack.enter_context(connecting)
            finally:
                accepting.set()
