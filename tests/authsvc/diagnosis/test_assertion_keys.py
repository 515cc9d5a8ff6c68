"""``authsvc doctor`` on the keys of assertions: stored and published."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from authsvc.diagnosis import Finding, Level, diagnose
from authsvc.diagnosis.assertion_keys import checks
from authsvc.server.config import Settings
from authsvc.server.running import running
from tests.authsvc.assertions.test_sealing import OTHER, secret_file
from tests.authsvc.diagnosis.test_listening import with_certificates
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.http import Answer, serving_http
from tests.support.service import STORE_KINDS, settings_for
from tests.support.tokens import IdentityProvider
from tests.support.valkey import free_port

pytestmark = pytest.mark.anyio

PATH = "/.well-known/jwks.json"


def signing(folder: Path, idp: IdentityProvider, store: str, listen: str = "") -> Settings:
    """authsvc with ``[assertions]``."""
    table = {
        "issuer": "https://authsvc.example",
        "listen": listen or f"127.0.0.1:{free_port()}",
        "encryption_key_file": None if store == "memory" else secret_file(folder),
    }
    return settings_for(folder, idp, store, assertions=table)


def listening(settings: Settings, address: str) -> Settings:
    assert settings.assertions is not None
    table = settings.assertions.model_copy(update={"listen": address})
    return settings.model_copy(update={"assertions": table})


async def found(settings: Settings, timeout_seconds: float = TIMEOUT_SECONDS) -> list[Finding]:
    return [it async for it in diagnose(checks(settings), timeout_seconds=timeout_seconds)]


async def test_without_assertions(tmp_path: Path, idp: IdentityProvider) -> None:
    assert not await found(settings_for(tmp_path, idp))


@pytest.mark.parametrize("store", STORE_KINDS)
async def test_keys_that_are_published(
    store: str, tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    settings = signing(tmp_path, idp, store)
    assert settings.assertions is not None
    url = f"http://{settings.assertions.listen}{PATH}"
    async with running(settings, clock=clock):
        *stored, published = await found(settings)
    assert (published.level, published.text) == (
        Level.OK,
        f"{url}: keys for servers to fetch: 1",
    )
    assert [(it.level, it.text) for it in stored] == (
        [(Level.OK, f"{tmp_path}/encryption.key decrypts the stored keys: 1")]
        if store != "memory"
        else []
    )
    # It has ended: its keys are stored, and nobody can fetch them.
    *stored, published = await found(settings)
    assert (published.level, published.text) == (Level.FAIL, f"{url}: Connection refused")
    assert "assertions.listen" in published.remedy
    assert all(it.level is Level.OK for it in stored)


@pytest.mark.parametrize("store", ["sqlite", "redis"])
async def test_before_the_first_start(store: str, tmp_path: Path, idp: IdentityProvider) -> None:
    stored, published = await found(signing(tmp_path, idp, store))
    assert (stored.level, "no keys yet" in stored.text) == (Level.OK, True)
    assert published.level is Level.FAIL


@pytest.mark.parametrize("store", ["sqlite", "redis"])
async def test_a_file_that_does_not_decrypt_them(
    store: str, tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    settings = signing(tmp_path, idp, store)
    async with running(settings, clock=clock):
        secret_file(tmp_path, OTHER)
        stored, published = await found(settings)
    assert (stored.level, published.level) == (Level.FAIL, Level.OK)
    assert "does not decrypt the stored keys" in stored.text
    assert OTHER not in repr(stored)
    assert "one that is started now fails to start" in stored.remedy


async def test_an_address_that_other_machines_reach(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    port = free_port()
    table = {"issuer": "https://authsvc.example", "listen": f"0.0.0.0:{port}"}
    made = with_certificates(tmp_path, idp).model_copy(
        update={"assertions": signing(tmp_path, idp, "memory").assertions}
    )
    settings = listening(made, table["listen"])
    async with running(settings, clock=clock):
        (published,) = await found(settings)
        (tmp_path / "other").mkdir()
        other = with_certificates(tmp_path / "other", idp).tls
        (strange,) = await found(settings.model_copy(update={"tls": other}))
    assert (published.level, published.text) == (
        Level.OK,
        f"https://127.0.0.1:{port}{PATH}: keys for servers to fetch: 1",
    )
    assert strange.level is Level.FAIL
    assert "certificate" in strange.text


async def test_keys_of_another_authsvc(tmp_path: Path, idp: IdentityProvider, clock: Clock) -> None:
    (tmp_path / "other").mkdir()
    other = signing(tmp_path / "other", idp, "sqlite")
    assert other.assertions is not None
    mine = signing(tmp_path, idp, "sqlite")
    async with running(mine, clock=clock):
        pass
    async with running(other, clock=clock):
        _, published = await found(listening(mine, other.assertions.listen))
    assert published.level is Level.FAIL
    assert "which are not those of the store" in published.text


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Answer(status=404), "answers 404, without a JWK Set"),
        (Answer(b"<html>"), "answers 200, without a JWK Set"),
        (Answer(b"x" * 1_000_000), "answers 200, without a JWK Set"),
        (Answer(b'{"keys": []}'), "which are not those of the store"),
        (Answer(status=503), "answers 503: authsvc has no keys that are new enough"),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
async def test_an_answer_without_keys(
    answer: Answer, text: str, tmp_path: Path, idp: IdentityProvider
) -> None:
    with serving_http() as site:
        site.answers[PATH] = answer
        settings = signing(tmp_path, idp, "memory", site.url.removeprefix("http://"))
        (fault,) = await found(settings)
    assert (fault.level, text in fault.text) == (Level.FAIL, True), fault


async def test_a_listener_that_hangs(tmp_path: Path, idp: IdentityProvider) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        (fault,) = await found(signing(tmp_path, idp, "memory", address), 0.5)
    late = f"http://{address}{PATH}: did not answer in 0.5 s"
    assert (fault.level, fault.text) == (Level.FAIL, late)
    assert fault.remedy.startswith("It is stuck, paused or overloaded")
