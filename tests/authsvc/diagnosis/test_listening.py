"""``authsvc doctor`` without an adapter: authsvc where its own configuration has it listen."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from authsvc.client import ClientTls
from authsvc.diagnosis import Finding, Level, diagnose
from authsvc.diagnosis.listening import check
from authsvc.server.config import Settings
from authsvc.server.running import running
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.commands import PATIENT, run
from tests.support.operators import settings as operators_settings
from tests.support.operators import write_tls
from tests.support.service import settings_for
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

CALLER = {
    "name": "gateway",
    "certificate_names": ["spiffe://dev/client"],
    "resources": [RESOURCE],
}


def in_clear(folder: Path, idp: IdentityProvider) -> Settings:
    return settings_for(folder, idp, listen="127.0.0.1:0")


def unix(folder: Path, idp: IdentityProvider) -> Settings:
    return settings_for(folder, idp)


def with_tokens(folder: Path, idp: IdentityProvider) -> Settings:
    return operators_settings(folder, write_tls(folder / "tls"), idp, "memory")


def with_certificates(folder: Path, idp: IdentityProvider) -> Settings:
    made = with_tokens(folder, idp)
    tls = {**made.tls.model_dump(), "client_ca_file": folder / "tls" / "ca.pem"} if made.tls else {}
    return settings_for(
        folder, idp, listen="127.0.0.1:0", resources=(), tls=tls, callers=[CALLER], credentials={}
    )


def unix_with_certificates(folder: Path, idp: IdentityProvider) -> Settings:
    return at(with_certificates(folder, idp), f"unix:{folder}/authsvc.sock")


@dataclass
class Kind:
    """How authsvc is asked, and the last thing that is told of one that serves."""

    settings: Callable[[Path, IdentityProvider], Settings]
    serves: str = "serves"


ALONE = "it answers certificates of callers alone"
KINDS = {
    "clear": Kind(in_clear),
    "unix": Kind(unix),
    "tokens": Kind(with_tokens),
    "certificates": Kind(with_certificates, ALONE),
    "unix_certificates": Kind(unix_with_certificates, ALONE),
}


def at(settings: Settings, address: str) -> Settings:
    return settings.model_copy(update={"listen": address})


async def found(
    settings: Settings, tls: ClientTls | None = None, timeout_seconds: float = TIMEOUT_SECONDS
) -> list[Finding]:
    checks = [check(settings, tls, timeout_seconds)]
    return [it async for it in diagnose(checks, timeout_seconds=timeout_seconds)]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


async def test_one_that_serves(
    kind: Kind, tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    settings = kind.settings(tmp_path, idp)
    async with running(settings, clock=clock) as address:
        findings = await found(at(settings, address))
        if not address.startswith("unix:"):
            everywhere = f"0.0.0.0:{address.rpartition(':')[2]}"
            assert await found(at(settings, everywhere)) == findings
    *others, last = findings
    assert {it.level for it in others} <= {Level.OK}
    assert last.level is (Level.NOTE if kind.serves == ALONE else Level.OK)
    assert kind.serves in last.text
    assert len(findings) == (1 if settings.tls is None else 2)


async def test_one_that_is_down(kind: Kind, tmp_path: Path, idp: IdentityProvider) -> None:
    settings = kind.settings(tmp_path, idp)
    if not settings.listen.startswith("unix:"):
        settings = at(settings, "127.0.0.1:1")
    (fault,) = await found(settings)
    assert (fault.level, fault.subject) == (Level.FAIL, "authsvc")
    assert fault.text.endswith(("Connection refused", "No such file or directory"))
    assert "authsvc serve" in fault.remedy


def silent(address: str) -> socket.socket:
    """Takes connections and says nothing, as a process that was stopped."""
    if address.startswith("unix:"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address.removeprefix("unix:"))
        listener.listen()
        return listener
    return socket.create_server(("127.0.0.1", 0))


async def test_one_that_hangs(kind: Kind, tmp_path: Path, idp: IdentityProvider) -> None:
    settings = kind.settings(tmp_path, idp)
    with closing(silent(settings.listen)) as listener:
        if not settings.listen.startswith("unix:"):
            settings = at(settings, f"127.0.0.1:{listener.getsockname()[1]}")
        (fault,) = await found(settings, timeout_seconds=1.0)
    assert fault.level is Level.FAIL
    is_late = "accepts connections, and does not answer in 0.5 s" in fault.text
    assert is_late or "health: DEADLINE_EXCEEDED" in fault.text
    assert fault.remedy.startswith("It is stuck, paused or overloaded")


async def test_another_server_at_its_address(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    settings = with_certificates(tmp_path, idp)
    (tmp_path / "other").mkdir()
    other = with_certificates(tmp_path / "other", idp)
    async with running(other, clock=clock) as address:
        (fault,) = await found(at(settings, address))
    assert "TLS: CERTIFICATE_VERIFY_FAILED" in fault.text
    assert "does not present the certificate of tls.certificate_file" in fault.remedy


async def test_the_certificate_of_a_caller_asks_for_health(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    settings = with_certificates(tmp_path, idp)
    tls = tmp_path / "tls"
    mine = ClientTls(tls / "ca.pem", tls / "client.pem", tls / "client.key")
    async with running(settings, clock=clock) as address:
        findings = await found(at(settings, address), mine)
    assert findings[-1].text == f"{address} serves"


async def test_a_certificate_that_cannot_be_read(tmp_path: Path, idp: IdentityProvider) -> None:
    settings = with_tokens(tmp_path, idp)
    file = tmp_path / "tls" / "server.pem"
    file.write_text("nothing")
    (fault,) = await found(settings)
    assert (fault.level, fault.text) == (Level.FAIL, f"{file} is not PEM")
    file.unlink()
    (fault,) = await found(settings)
    assert fault.text == f"tls.certificate_file: {file}: No such file or directory"


@pytest.mark.parametrize("more", [(), ("--envoy", "none.yaml")])
async def test_the_command_fails_while_an_authsvc_with_tls_is_down(
    tmp_path: Path, idp: IdentityProvider, more: tuple[str, ...]
) -> None:
    tls = write_tls(tmp_path / "tls")
    config = tmp_path / "authsvc.toml"
    config.write_text(
        'listen = "127.0.0.1:1"\n'
        f'[tls]\ncertificate_file = "{tls}/server.pem"\nkey_file = "{tls}/server.key"\n'
        f'client_ca_file = "{tls}/ca.pem"\n'
        '[[callers]]\nname = "gateway"\nresources = ["https://mcp.example.com/mcp"]\n'
        'certificate_names = ["spiffe://dev/client"]\n'
        '[store]\nkind = "memory"\n'
        f'[[issuers]]\nissuer = "{ISSUER}"\nalgorithms = ["HS256"]\n'
        f'secret_file = "{idp.write_secret(tmp_path)}"\n'
    )
    ran = await run("doctor", "--config", config, *more, *PATIENT, "--json")
    assert ran.code == 1
    findings = json.loads(ran.out)["findings"]
    (told,) = (it for it in findings if it["subject"] == "authsvc")
    assert (told["level"], told["text"]) == ("fail", "127.0.0.1:1: Connection refused")


async def test_an_operator_asks_where_authsvc_listens(
    tmp_path: Path, idp: IdentityProvider
) -> None:
    tls = write_tls(tmp_path / "tls")
    config = tmp_path / "authsvc.toml"
    config.write_text(
        'listen = "127.0.0.1:1"\nresources = ["https://mcp.example.com/mcp"]\n'
        '[store]\nkind = "memory"\n'
        f'[[issuers]]\nissuer = "{ISSUER}"\nalgorithms = ["HS256"]\n'
        f'secret_file = "{idp.write_secret(tmp_path)}"\n'
    )
    options = ("--ca-file", tls / "ca.pem", "--service-token-file", tls / "operator")
    ran = await run("doctor", "--config", config, *options, *PATIENT, "--json")
    findings = json.loads(ran.out)["findings"]
    (told,) = (it for it in findings if it["subject"] == "admin")
    assert (told["level"], "127.0.0.1:1" in told["text"]) == ("fail", True), told


async def test_the_command_tells_that_authsvc_was_not_asked(tmp_path: Path) -> None:
    ran = await run("doctor", "--envoy", tmp_path / "none.yaml", *PATIENT, "--json")
    (told,) = (it for it in json.loads(ran.out)["findings"] if it["subject"] == "authsvc")
    assert (told["level"], "it was not asked" in told["text"]) == ("note", True)
