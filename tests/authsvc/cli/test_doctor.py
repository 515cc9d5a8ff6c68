"""``authsvc doctor`` on chains that are whole and chains that are broken; ``authsvc health``."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from secrets import token_hex
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from authsvc.cli import main
from authsvc.cli.doctor import _print_waiting
from authsvc.client import ClientTls
from authsvc.common.settings import ConfigError
from authsvc.diagnosis import (
    PROXY_VARIABLES,
    Check,
    Finding,
    Level,
    Report,
    diagnose,
    introspection,
    issuers,
    link,
    service,
    space,
    store,
)
from authsvc.diagnosis.adapter import AdapterSettings
from authsvc.diagnosis.endpoint_remedies import Place
from authsvc.server.config import ExchangeSettings, Settings
from authsvc.server.running import running
from authsvc.stores.sqlite import schema
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.commands import PATIENT, run, run_here, run_on_terminal
from tests.support.http import Answer, serving_http
from tests.support.https import PrivateAuthority, serving_https
from tests.support.keys import jwks, signer
from tests.support.operators import settings as operators_settings
from tests.support.operators import write_tls
from tests.support.service import settings_for
from tests.support.shared_valkey import shared_valkey
from tests.support.stack import RESOURCE as STACK_RESOURCE
from tests.support.stack import ROLES, start_adapter, start_authsvc
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio


async def found(checks: Iterable[Check], timeout_seconds: float = TIMEOUT_SECONDS) -> list[Finding]:
    return [it async for it in diagnose(checks, timeout_seconds=timeout_seconds)]


def levels(findings: Iterable[Finding]) -> list[str]:
    return [str(it.level) for it in findings]


def texts(findings: Iterable[Finding], level: Level) -> str:
    return "\n".join(it.text for it in findings if it.level is level)


def trusting(**issuer: object) -> Settings:
    values: dict[str, Any] = {"issuers": [{"algorithms": ["ES256"], **issuer}]}
    return Settings(resources=(RESOURCE,), **values)


# The command, on a chain of real processes.


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the configurations of an authsvc and an adapter that run, as they run."""
    folder = tmp_path_factory.mktemp("chain")
    IdentityProvider().write_secret(folder)
    for role in ROLES:
        (folder / f"{role}.key").write_text("secret")
    with ExitStack() as ending:
        _, address = start_authsvc(folder, ending)
        _, url = start_adapter(folder, ending, authsvc=address, s3="http://127.0.0.1:1")
        (folder / "url").write_text(url)
        yield folder


def options(chain: Path) -> tuple[str, ...]:
    return (
        *("--config", f"{chain}/authsvc.toml", "--adapter-config", f"{chain}/adapter.toml"),
        *("--adapter-url", (chain / "url").read_text()),
        *PATIENT,
    )


async def test_a_chain_that_is_whole(chain: Path) -> None:
    ran = await run("doctor", *options(chain), "--json")
    report = json.loads(ran.out)
    assert (ran.code, report["healthy"]) == (0, True), ran.out
    assert {it["level"] for it in report["findings"]} == {"ok"}
    assert {it["subject"] for it in report["findings"]} == {
        *("configuration", "adapter", "resource", "authsvc", "caller"),
        *("issuer", "store", "credentials"),
    }
    people = await asyncio.to_thread(run_on_terminal, "doctor", *options(chain))
    assert "0 failures, 0 warnings." in people.out


async def test_nothing_is_logged_amid_the_findings(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(token_hex(20))
    (tmp_path / "assertion").write_text(jwt.encode({"exp": 1}, "k" * 32, algorithm="HS256"))
    config = tmp_path / "authsvc.toml"
    config.write_text(
        f'resources = ["{RESOURCE}"]\n[store]\nkind = "memory"\n'
        f'[[issuers]]\nissuer = "{ISSUER}"\nalgorithms = ["HS256"]\n'
        f'secret_file = "{tmp_path}/secret"\n'
        '[introspection]\nissuer = "https://i.example"\nendpoint = "http://127.0.0.1:1/x"\n'
        'auth_method = "client_assertion_file"\n'
        f'client_assertion_file = "{tmp_path}/assertion"\n'
    )
    ran = await run("doctor", "--config", config, "--timeout-seconds", "10")
    assert "introspection.client_assertion_file: the assertion expired" in ran.out
    assert ran.err == ""


async def test_a_broken_chain_is_told_to_its_end(chain: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(token_hex(20))
    (tmp_path / "secret").chmod(0o644)
    authsvc, adapter = tmp_path / "authsvc.toml", tmp_path / "adapter.toml"
    authsvc.write_text(
        'resources = ["https://one.example/mcp"]\n'
        f'[[issuers]]\nissuer = "{ISSUER}"\nalgorithms = ["HS256"]\n'
        f'secret_file = "{tmp_path}/secret"\n[store]\nkind = "memory"\n'
    )
    adapter.write_text(
        'resource = "https://two.example/mcp"\nauthorization_servers = ["https://as.example"]\n'
        '[authsvc]\ntarget = "127.0.0.1:1"\n'
    )
    url = (chain / "url").read_text()
    ran = await run(
        *("doctor", "--config", authsvc, "--adapter-config", adapter, "--adapter-url", url),
        *("--timeout-seconds", "10", "--json"),
    )
    assert ran.code == 1
    findings = json.loads(ran.out)["findings"]
    bad = [(it["subject"], it["level"]) for it in findings if it["level"] != "ok"]
    assert bad == [
        ("adapter", "fail"),
        ("adapter", "fail"),
        ("resource", "fail"),
        ("resource", "fail"),
        ("authsvc", "fail"),
        ("caller", "fail"),
        ("issuer", "warn"),
        ("store", "warn"),
    ]
    assert all(it["remedy"] for it in findings if it["level"] != "ok")
    told = "\n".join(it["text"] for it in findings)
    assert f"says resource {STACK_RESOURCE!r}" in told
    assert "https://two.example/mcp is none of authsvc's resources" in told
    assert "127.0.0.1:1: Connection refused" in told
    assert "can be read by others" in told


async def test_configurations_that_are_wrong_are_findings(tmp_path: Path) -> None:
    wrong, missing = tmp_path / "wrong.toml", tmp_path / "missing.toml"
    wrong.write_text("listen = 3")
    ran = await run("doctor", "--config", wrong, "--adapter-config", missing, "--json")
    assert ran.code == 1
    told = [it["text"] for it in json.loads(ran.out)["findings"]]
    assert f"{missing}: No such file or directory" in told
    assert any(str(wrong) in it and "listen" in it for it in told)


def test_it_has_to_be_told_of_something() -> None:
    ran = CliRunner().invoke(main, ["doctor"])
    assert ran.exit_code == 2
    assert "--config, --adapter-config, --gate or --envoy" in ran.output


async def test_health_of_either_program(chain: Path) -> None:
    url = (chain / "url").read_text()
    well = await run("health", f"{url}/readyz", *PATIENT)
    assert (well.code, well.out) == (0, "HTTP 200\n")
    unwell = await run("health", f"{url}/nothing", "--json", *PATIENT)
    assert (unwell.code, unwell.json()["answer"]) == (1, "HTTP 404")
    assert (await run("health", f"{url}/nothing", "--alive", *PATIENT)).code == 0
    away = await run("health", "127.0.0.1:1", "--timeout-seconds", "1")
    assert (away.code, "no answer" in away.err) == (1, True)


# Each check by itself.


async def test_checks_are_bounded_and_do_not_stop_each_other() -> None:
    works_now = asyncio.Event()

    async def hangs(report: Report) -> None:
        report.ok("so far so good")
        await asyncio.Event().wait()

    async def breaks(report: Report) -> None:
        raise OSError("broken")

    async def is_odd(report: Report) -> None:
        raise TypeError("may quote a secret")

    async def is_configured_wrongly(report: Report) -> None:
        raise ConfigError("one: wrong\ntwo: wrong")

    async def waits(report: Report) -> None:
        await works_now.wait()
        report.ok("ran at the same time")

    async def works(report: Report) -> None:
        report.ok("works")
        works_now.set()

    checks = [
        Check("a", hangs, "mend a", "https://a.example"),
        Check("b", breaks, "mend b"),
        Check("c", is_odd, "mend c"),
        Check("d", is_configured_wrongly, "mend d"),
        Check("e", is_configured_wrongly, "mend e"),
        Check("f", waits, ""),
        Check("g", works, ""),
        Check("h", hangs, "mend h"),
    ]
    findings = await found(checks, 0.5)
    odd = findings.pop(3)
    assert findings == [
        Finding(Level.OK, "a", "so far so good"),
        Finding(Level.FAIL, "a", "https://a.example: did not answer in 0.5 s", "mend a"),
        Finding(Level.FAIL, "b", "broken", "mend b"),
        Finding(Level.FAIL, "d", "one: wrong", "mend d"),
        Finding(Level.FAIL, "d", "two: wrong", "mend d"),
        Finding(Level.OK, "f", "ran at the same time"),
        Finding(Level.OK, "g", "works"),
        Finding(Level.OK, "h", "so far so good"),
        Finding(Level.FAIL, "h", "did not answer in 0.5 s", "mend h"),
    ]
    assert odd.text.startswith("the check failed unexpectedly: TypeError in test_doctor.py, line ")


async def test_a_check_may_come_after_another() -> None:
    order: list[str] = []

    async def takes_turns(report: Report) -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        order.append(report.subject)

    async def is_fast(report: Report) -> None:
        order.append(report.subject)

    first = Check("first", takes_turns, "")
    assert not await found([first, Check("second", is_fast, "", after=first)])
    assert order == ["first", "second"]


async def test_what_is_waited_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authsvc.diagnosis.PROGRESS_SECONDS", 0.01)
    may_end, waited = asyncio.Event(), list[list[str]]()

    async def is_slow(report: Report) -> None:
        await may_end.wait()

    async def works(report: Report) -> None:
        report.ok("works")

    def waiting(checks: list[Check]) -> None:
        waited.append([it.name for it in checks])
        may_end.set()

    checks = [Check("a", is_slow, "", "slow"), Check("b", works, "", "fast")]
    bound = TIMEOUT_SECONDS
    texts = [it.text async for it in diagnose(checks, timeout_seconds=bound, waiting=waiting)]
    assert (texts, waited) == (["works"], [["slow"]])


async def test_endpoints_that_hang_are_named_each(
    tmp_path: Path, idp: IdentityProvider, silent: str
) -> None:
    """Each has its own time, and so has what answers after them."""
    (tmp_path / "client").write_text("secret")
    url = f"http://{silent}"
    client = {"client_id": "us", "client_secret_file": tmp_path / "client"}
    named = {"issuers": [ISSUER], "resources": [RESOURCE], **client}
    exchanges = [{"name": it, "endpoint": f"{url}/{it}", **named} for it in ("one", "two")]
    fetched = [
        {"issuer": f"https://{it}.example", "algorithms": ["ES256"], "jwks_url": f"{url}/{it}"}
        for it in ("a", "b")
    ]
    with serving_http() as site:
        site.answers["/keys"] = Answer(jwks(signer("k1")))
        fetched.append({"issuer": ISSUER, "algorithms": ["ES256"], "jwks_url": f"{site.url}/keys"})
        settings = settings_for(
            tmp_path,
            idp,
            issuers=fetched,
            introspection={"issuer": "https://i.example", "endpoint": f"{url}/i", **client},
            credentials={"exchange": exchanges},
        )
        modules = (issuers, introspection, service)
        findings = await found([it for one in modules for it in one.checks(settings)], 2.0)
    late = [it.text for it in findings if "did not answer" in it.text]
    assert late == [
        f"{name}: did not answer in 2 s"
        for name in (
            *("https://a.example", "https://b.example", f"{url}/i"),
            *(f"credentials.exchange[{n}]: {url}/{it}" for n, it in enumerate(("one", "two"))),
        )
    ]
    assert f"{ISSUER}: keys: 1, from {site.url}/keys" in texts(findings, Level.OK)
    assert all(it.remedy for it in findings if it.level is Level.FAIL)


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def test_each_replica_is_looked_at_over_tls(
    tmp_path: Path, idp: IdentityProvider, clock: Clock, silent: str
) -> None:
    tls = write_tls(tmp_path / "tls")
    how = ClientTls(tls / "ca.pem", service_token_file=tls / "server")
    async with running(operators_settings(tmp_path, tls, idp), clock=clock) as address:
        whole = await found([link.replicas(address, how, TIMEOUT_SECONDS)])
        refused = await found([link.replicas(f"{silent},{address}", how, 10.0)])
        dead = await found([link.replicas("127.0.0.1:1", how, TIMEOUT_SECONDS)])
        assert levels(whole) == ["ok", "ok"]
        assert ", in 29 d 23 h, for localhost, 127.0.0.1" in texts(whole, Level.OK)
        assert f"{address} serves" in texts(whole, Level.OK)
        assert levels(refused) == ["fail", "ok", "ok"]
        assert f"{silent} accepts connections, and does not answer in 5 s" in texts(
            refused, Level.FAIL
        )
        assert "It is stuck" in refused[0].remedy
        assert levels(dead) == ["fail"]

        write_tls(tmp_path / "stranger")
        strange = ClientTls(tmp_path / "stranger" / "ca.pem")
        (untrusted,) = await found([link.replicas(address, strange, TIMEOUT_SECONDS)])
        assert "TLS: CERTIFICATE_VERIFY_FAILED" in untrusted.text
        # It trusts whom a client would trust.
        odd = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        (tls / "odd.pem").write_text(odd + (tls / "ca.pem").read_text())
        (tls / "rubbish.pem").write_text("rubbish")
        for name, level, text in (("odd", "ok", "serves"), ("rubbish", "fail", "no certificate")):
            trust = ClientTls(tls / f"{name}.pem", service_token_file=tls / "server")
            trusted = await found([link.replicas(address, trust, TIMEOUT_SECONDS)])
            assert levels(trusted)[-1] == level
            assert text in trusted[-1].text
        (clear,) = await found([link.replicas(address, None, 4.0)])
        assert "Only one of the two sides uses TLS" in clear.remedy

        (accepted,) = await found([link.caller(address, how, RESOURCE, TIMEOUT_SECONDS)])
        assert accepted.level is Level.OK
        (refusal,) = await found(
            [link.caller(address, how, "https://no.example/mcp", TIMEOUT_SECONDS)]
        )
        assert "denies the adapter the use of https://no.example/mcp" in refusal.text

        operator = ClientTls(tls / "ca.pem", service_token_file=tls / "operator")
        admin = await found([service.admin(address, operator, TIMEOUT_SECONDS)])
        assert levels(admin) == ["ok", "ok"]
        (no_admin,) = await found([service.admin(address, how, TIMEOUT_SECONDS)])
        assert "denies you operator access" in no_admin.text


@pytest.mark.parametrize(("days", "level"), [(-2, "fail"), (3, "warn"), (100, "ok"), (29, "ok")])
def test_certificates_that_end(days: int, level: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=days, hours=1))
        .sign(key, hashes.SHA256())
    )
    report = Report("x")
    link.check_certificate(report, "it", certificate, time.time())
    assert levels(report.findings) == [level]
    (finding,) = report.findings
    date = f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S UTC}"
    assert f"it {'expired' if days < 0 else 'expires'} on {date}" in finding.text


def test_certificates_that_strict_verifiers_reject() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    other = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "its issuer")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(other, name, key.public_key(), 1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=100))
        .sign(key, hashes.SHA256())
    )
    report = Report("x")
    link.check_certificate(report, "it", certificate, time.time())
    assert levels(report.findings) == ["warn", "ok"]
    assert "no authority key identifier" in report.findings[0].text


@pytest.mark.parametrize(
    ("odd", "signers", "expected"),
    [([{"kid": "odd", "kty": "EC", "crv": "P-256"}], 1, ["ok", "warn"]), ([], 0, ["fail"])],
)
async def test_an_issuer_with_keys_that_cannot_be_used(
    odd: list[object], signers: int, expected: list[str]
) -> None:
    with serving_http() as site:
        keys = [signer(f"k{number}") for number in range(signers)]
        site.answers["/keys"] = Answer(jwks(*keys, odd=odd))
        settings = trusting(issuer=ISSUER, jwks_url=f"{site.url}/keys")
        findings = await found(issuers.checks(settings))
    assert [str(item.level) for item in findings][: len(expected)] == expected
    assert ("'odd'" in findings[1].text) if odd else ("no key verifies" in findings[0].text)


@pytest.mark.parametrize(("kid", "advice"), [("k0", "Another key of the same"), ("k", "rejected")])
async def test_a_skipped_key_whose_kid_another_one_has(kid: str, advice: str) -> None:
    with serving_http() as site:
        odd = {"kid": kid, "kty": "EC", "crv": "P-256"}
        site.answers["/keys"] = Answer(jwks(signer("k0"), odd=[odd]))
        settings = trusting(issuer=ISSUER, jwks_url=f"{site.url}/keys")
        findings = await found(issuers.checks(settings))
    (skipped,) = (it for it in findings if it.level is Level.WARN)
    assert advice in skipped.remedy


async def test_an_issuer_that_is_away() -> None:
    settings = trusting(issuer="http://127.0.0.1:1", discover=True)
    (away,) = await found(issuers.checks(settings))
    assert (away.level, away.subject) == (Level.FAIL, "issuer")
    assert "http://127.0.0.1:1/.well-known/" in away.text


async def test_the_remedy_for_keys_that_cannot_be_fetched_fits_the_cause(tmp_path: Path) -> None:
    async def remedy(**issuer: object) -> str:
        (finding,) = await found(issuers.checks(trusting(**issuer)))
        assert finding.level is Level.FAIL
        return finding.remedy

    authority = PrivateAuthority(tmp_path)
    with serving_http() as site:
        for answer in (Answer(status=404), Answer(b"<html>")):
            site.answers["/keys"] = answer
            plain = await remedy(issuer=ISSUER, jwks_url=f"{site.url}/keys")
            undiscovered = await remedy(issuer=site.url, discover=True)
            assert plain.startswith("Correct jwks_url")
            assert undiscovered.startswith("Correct the issuer's URL")
            assert "firewall" not in plain + undiscovered
    async with serving_https(authority.server()) as tls_site:
        for where in ({"jwks_url": f"{tls_site.url}/keys"}, {"discover": True}):
            unknown = await remedy(issuer=tls_site.url, **where)
            other = await remedy(issuer=tls_site.url, ca_file=authority.file(), **where)
            assert unknown.startswith("Set the issuer's ca_file")
            assert other.startswith("Correct ")
    expired = authority.server(days=-0.001)
    async with serving_https(expired) as tls_site:
        for where in ({"jwks_url": f"{tls_site.url}/keys"}, {"discover": True}):
            ended = await remedy(issuer=tls_site.url, ca_file=authority.file(), **where)
            assert ended.startswith("Correct the certificate")
            assert "firewall" not in ended
    with serving_http() as site:
        uri = {"issuer": site.url, "jwks_uri": f"{site.url}/gone?hush"}
        site.answers["/.well-known/openid-configuration"] = Answer(json.dumps(uri).encode())
        (gone,) = await found(issuers.checks(trusting(issuer=site.url, discover=True)))
        assert gone.text.startswith(f"{site.url}/gone?...: answered 404; its URL is the jwks_uri")
        assert gone.remedy.startswith("Have the issuer correct the jwks_uri of its metadata, or")
    refused = await remedy(issuer=ISSUER, jwks_url="http://127.0.0.1:1/keys")
    assert refused.startswith("This machine has to reach it")


async def test_a_fault_of_the_configuration_is_reported_once(tmp_path: Path) -> None:
    config = tmp_path / "authsvc.toml"
    config.write_text(
        f'resources = ["{RESOURCE}"]\n[store]\nkind = "memory"\n'
        f'[[issuers]]\nissuer = "{ISSUER}"\nalgorithms = ["ES256"]\ndiscover = true\n'
        f'ca_file = "{tmp_path}/missing.pem"\n'
    )
    ran = await run("doctor", "--config", config, "--timeout-seconds", "10", "--json")
    findings = json.loads(ran.out)["findings"]
    (fault,) = (it for it in findings if "missing.pem" in it["text"])
    assert (fault["subject"], fault["level"]) == ("configuration", "fail")
    assert fault["remedy"].startswith("Correct the setting, or the file that it names.")


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of a proxy is set."""
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)


async def test_files_of_the_adapter_are_named_before_a_connection(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter.toml"
    adapter.write_text(
        'resource = "https://mcp.example/mcp"\nauthorization_servers = ["https://as.example"]\n'
        '[authsvc]\ntarget = "127.0.0.1:1"\nca_file = "/none/ca"\ncertificate_file = "/none/c"\n'
        'key_file = "/none/k"\nservice_token_file = "/none/t"\n'
    )
    ran = await run_here("doctor", "--adapter-config", adapter, "--json", *PATIENT)
    others = {"adapter", "configuration"}
    found = [it for it in ran.json()["findings"] if it["subject"] not in others]
    names = {"ca_file": "ca", "certificate_file": "c", "key_file": "k", "service_token_file": "t"}
    assert [(it["subject"], it["text"]) for it in found] == [
        ("files", f"{name} /none/{file}: No such file or directory") for name, file in names.items()
    ]
    assert all(it["remedy"].startswith("Correct the file") for it in found)


def test_progress_names_a_few_checks(capsys: pytest.CaptureFixture[str]) -> None:
    async def look(report: Report) -> None:
        pass

    _print_waiting([Check("issuer", look, "", f"https://{n}.example") for n in range(7)])
    said = capsys.readouterr().err
    assert "waiting for issuer https://0.example, " in said
    assert said.rstrip().endswith("issuer https://4.example and 2 more")


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"])
async def test_a_proxy_that_is_ignored_is_named_where_something_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, idp: IdentityProvider, name: str
) -> None:
    with serving_http() as site:
        site.answers["/keys"] = Answer(jwks())
        odd = trusting(issuer=ISSUER, jwks_url=f"{site.url}/keys")
        away = trusting(issuer=ISSUER, jwks_url="http://127.0.0.1:1/keys")
        table = ExchangeSettings(
            issuers=(ISSUER,),
            endpoint="http://127.0.0.1:1/token",
            client_id="authsvc",
            client_secret_file=tmp_path,
        )
        reach = partial(
            service._reach, url=table.endpoint, table=table, place=Place("credentials.exchange")
        )
        unreached = [*issuers.checks(away), Check("credentials", reach, "")]
        for finding in await found(unreached):
            assert (finding.level, "ignored" in finding.remedy) == (Level.FAIL, False)

        monkeypatch.setenv(name, "http://user:secret@proxy.example:3128")
        unreached[0] = issuers.checks(away)[0]
        issuer, broker = await found(unreached)
        (unusable,) = await found(issuers.checks(odd))
    for finding in (issuer, broker):
        assert f"Proxies of the environment are ignored ({name})." in finding.remedy
        assert "secret" not in finding.remedy
    assert "has to reach it directly" in issuer.remedy
    assert "jwks_file" in issuer.remedy
    # What was fetched was reached; and what is in a file is not fetched.
    assert "ignored" not in unusable.remedy
    path = idp.write_secret(tmp_path)
    of_file = trusting(issuer=ISSUER, algorithms=["HS256"], secret_file=path)
    path.unlink()
    (missing,) = await found(issuers.checks(of_file))
    assert (missing.level, "ignored" in missing.remedy) == (Level.FAIL, False)


@pytest.mark.parametrize("unfit", ["short", "", "secret" * 6, None], ids=repr)
async def test_an_unfit_secret_stays_out_of_a_service_that_runs(
    tmp_path: Path, idp: IdentityProvider, unfit: str | None
) -> None:
    paths = current, previous = tmp_path / "current", tmp_path / "previous"
    for path in paths:
        path.write_text(token_hex(32))
        path.chmod(0o600)
    settings = trusting(
        issuer=ISSUER, algorithms=["HS256"], secret_file=current, previous_secret_files=[previous]
    )
    assert levels(await found(issuers.checks(settings))) == ["ok"]
    for path in paths:
        path.write_text(unfit) if unfit is not None else path.unlink()
    of_current, of_previous = await found(issuers.checks(settings))
    for finding, path in zip((of_current, of_previous), paths, strict=True):
        assert (finding.level, f"{ISSUER}: {path}: " in finding.text) == (Level.FAIL, True)
        assert "503" not in finding.remedy
        assert "A service that is started now fails to start." in finding.remedy
    assert "keeps the keys that it has read and accepts their tokens: that is urgent" in (
        of_current.remedy
    )
    assert "rejects tokens that are signed with that previous secret" in of_previous.remedy


@pytest.mark.parametrize(
    ("content", "consequence"),
    [
        (b"no JSON", "keeps the keys that it has read and accepts their tokens"),
        (None, "keeps the keys that it has read and accepts their tokens"),
        (jwks(), "rejects each of its tokens as TOKEN_KEY_UNKNOWN"),
    ],
)
async def test_what_an_unfit_key_set_means_to_a_service_that_runs(
    tmp_path: Path, content: bytes | None, consequence: str
) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks(signer("k1")))
    settings = trusting(issuer=ISSUER, jwks_file=path)
    assert levels(await found(issuers.checks(settings))) == ["ok"]
    path.write_bytes(content) if content is not None else path.unlink()
    (finding,) = await found(issuers.checks(settings))
    assert finding.level is Level.FAIL
    assert consequence in finding.remedy
    assert "503" not in finding.remedy
    assert "A service that is started now fails to start." in finding.remedy


async def test_what_unavailable_keys_mean_to_a_service_that_runs() -> None:
    with serving_http() as site:
        site.answers["/keys"] = Answer(jwks())
        empty = trusting(issuer=ISSUER, jwks_url=f"{site.url}/keys")
        (unusable,) = await found(issuers.checks(empty))
    assert "rejects each of its tokens as TOKEN_KEY_UNKNOWN" in unusable.remedy
    (away,) = await found(issuers.checks(trusting(issuer=ISSUER, jwks_url="http://127.0.0.1:1/k")))
    assert "keys_max_stale_seconds = 86400" in away.remedy


@pytest.mark.usefixtures("roomy")
async def test_the_sqlite_store(tmp_path: Path, idp: IdentityProvider, clock: Clock) -> None:
    settings = settings_for(tmp_path, idp, "sqlite")
    assert levels(await found(store.checks(settings))) == ["ok", "ok"]
    async with running(settings, clock=clock):
        good = await found(store.checks(settings))
    assert levels(good) == ["ok", "ok"]
    assert "WAL" in good[1].text
    settings.store.path.write_bytes(b"no database at all" * 100)
    broken = await found(store.checks(settings))
    assert levels(broken)[1] == "fail"
    assert "file is not a database" in broken[1].text


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system with half of its space left, whatever the machine has."""
    set_free(monkeypatch, 50 << 30)


def set_free(monkeypatch: pytest.MonkeyPatch, free: int, total: int = 100 << 30) -> None:
    usage = SimpleNamespace(free=free, total=total, used=total - free)
    monkeypatch.setattr("authsvc.diagnosis.store.shutil.disk_usage", lambda _: usage)


@pytest.mark.parametrize(
    ("free", "total", "level", "text"),
    [
        (10 << 30, 100 << 30, Level.OK, "10.0 GiB of 100.0 GiB are free"),
        ((10 << 30) - 1, 100 << 30, Level.WARN, "10.0 GiB of 100.0 GiB are free"),
        (1 << 30, 2 << 30, Level.OK, "1.0 GiB of 2.0 GiB are free"),
        ((1 << 30) - 1, 2 << 30, Level.WARN, "1024.0 MiB of 2.0 GiB are free"),
        (0, 1 << 20, Level.WARN, "0.0 MiB of 1.0 MiB are free"),
    ],
)
def test_the_space_that_is_left(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    total: int,
    level: Level,
    text: str,
) -> None:
    set_free(monkeypatch, free, total)
    report = Report("store")
    store._check_file(report, tmp_path / "authsvc.db")
    assert report.findings[0].level is level
    assert text in report.findings[0].text


@pytest.mark.usefixtures("roomy")
def test_a_file_system_that_takes_no_writes(tmp_path: Path) -> None:
    """A limit on the size of files stands for one on the file system, which only root may make."""
    sqlite3.connect(tmp_path / "authsvc.db").close()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (space.PROBE_BYTES - 1, before[1]))
    try:
        report = Report("store")
        store._check_file(report, tmp_path / "authsvc.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (fault,) = report.findings
    assert fault.level is Level.FAIL
    assert fault.text.startswith(f"{tmp_path} takes no writes: File too large; ")
    assert "are free" in fault.text
    assert [it.name for it in tmp_path.iterdir()] == ["authsvc.db"]


@pytest.mark.usefixtures("roomy")
@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "Free space: "),
        (errno.EDQUOT, "Raise the quota"),
        (errno.EROFS, "Mount it writable"),
        (errno.EACCES, "chown it"),
        (errno.EIO, "Mend the file system"),
    ],
)
def test_why_a_file_system_takes_no_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("authsvc.diagnosis.space.os.fsync", fail)
    report = Report("store")
    store._check_file(report, tmp_path / "authsvc.db")
    (fault,) = report.findings
    assert (fault.level, os.strerror(number) in fault.text) == (Level.FAIL, True)
    assert fault.remedy.startswith(remedy)
    assert "can be" not in fault.text


@pytest.mark.usefixtures("roomy")
def test_a_file_that_another_process_has_locked(tmp_path: Path) -> None:
    path = tmp_path / "authsvc.db"
    with closing(schema.connect_reader(path)), closing(schema.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        report = Report("store")
        store._check_file(report, path)
        other.execute("ROLLBACK")
        unlocked = Report("store")
        store._check_file(unlocked, path)
    assert levels(report.findings) == ["ok", "fail"]
    assert "database is locked" in report.findings[1].text
    assert "fuser" in report.findings[1].remedy
    assert levels(unlocked.findings) == ["ok", "ok"]


@pytest.mark.usefixtures("roomy")
def test_a_file_that_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write any file: SQLite opens it read-only instead."""
    path = tmp_path / "authsvc.db"
    schema.connect_reader(path).close()
    connect = sqlite3.connect
    monkeypatch.setattr(
        "authsvc.diagnosis.store.sqlite3.connect",
        lambda place, **options: connect(place.replace("mode=rw", "mode=ro"), **options),
    )
    report = Report("store")
    store._check_file(report, path)
    assert levels(report.findings) == ["ok", "fail"]
    assert "readonly database" in report.findings[1].text
    assert report.findings[1].remedy.startswith("chown it")


def test_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("")
    report = Report("store")
    store._check_file(report, tmp_path / "a-file" / "below" / "authsvc.db")
    store._check_file(report, tmp_path / "new" / "below" / "authsvc.db")
    assert levels(report.findings) == ["fail", "warn"]
    assert report.findings[0].text.endswith(f"cannot be created in {tmp_path}/a-file")
    assert report.findings[1].remedy.endswith(f"creates it, in {tmp_path}.")


@pytest.mark.parametrize(
    ("server", "remedy"),
    [
        (f"{ISSUER}/", f"authsvc has it as {ISSUER}:"),
        ("https://b.example", "Add it to [[issuers]]"),
    ],
)
async def test_an_authorization_server_that_is_no_issuer(server: str, remedy: str) -> None:
    settings = trusting(issuer=ISSUER, discover=True)
    of_adapter = AdapterSettings(resource=RESOURCE, authorization_servers=(server,))
    _, fault = await found([service.agreement(settings, of_adapter)])
    assert fault.level is Level.FAIL
    assert fault.remedy.startswith(remedy)


@pytest.mark.usefixtures("roomy")
async def test_a_relative_path_of_the_store(
    tmp_path: Path, idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(tmp_path, idp, {"kind": "sqlite", "path": "authsvc.db"})
    monkeypatch.chdir(tmp_path)
    _, where = await found(store.checks(settings))
    assert where.level is Level.WARN
    assert where.text == f"{tmp_path}/authsvc.db does not exist, and can be created"
    assert "working directory" in where.remedy
    settings = settings_for(tmp_path, idp, {"kind": "sqlite", "path": "var/authsvc.db"})
    (no_folder,) = await found(store.checks(settings))
    assert no_folder.text == f"{tmp_path}/var does not exist"
    assert "working directory" in no_folder.remedy


async def test_the_redis_store(tmp_path: Path, idp: IdentityProvider) -> None:
    settings = settings_for(tmp_path, idp, "redis")
    findings = await found(store.checks(settings))
    # The tests' server is not durable and has no bound: both are told.
    assert levels(findings) == ["ok", "warn", "warn"]
    assert "appendonly is off" in findings[1].text
    assert "maxmemory is not set" in findings[2].text
    away = settings_for(tmp_path, idp, {"kind": "redis", "url": "redis://127.0.0.1:1/0"})
    (unreached,) = await found(store.checks(away))
    assert "STORE_UNAVAILABLE" in unreached.text
    assert shared_valkey().url.startswith("redis://")


@pytest.mark.parametrize(
    ("info", "level", "text"),
    [
        ({"maxmemory_policy": "allkeys-lru"}, Level.FAIL, "maxmemory-policy is allkeys-lru"),
        ({"aof_last_write_status": "err"}, Level.FAIL, "last write to the append-only file failed"),
        ({"aof_last_bgrewrite_status": "err"}, Level.FAIL, "last rewrite of the append-only"),
        ({"rdb_last_bgsave_status": "err"}, Level.FAIL, "last snapshot (BGSAVE) failed"),
        ({"used_memory": 86}, Level.WARN, "86% of its memory"),
        ({"used_memory": 85}, Level.OK, "85% of its memory"),
        ({"role": "slave"}, Level.FAIL, "takes no writes"),
        ({"used_memory": 90}, Level.WARN, "90% of its memory"),
        ({}, Level.OK, "10% of its memory"),
    ],
)
def test_settings_of_a_redis_server(info: Mapping[str, Any], level: Level, text: str) -> None:
    good = {
        "maxmemory_policy": "noeviction",
        "aof_enabled": 1,
        "role": "master",
        "used_memory": 10,
        "maxmemory": 100,
    }
    report = Report("store")
    store.check_node(report, "node", {**good, **info})
    assert text in texts(report.findings, level)
    assert [it for it in levels(report.findings) if it != "ok"] == (
        [] if level is Level.OK else [str(level)]
    )


async def test_a_broker_that_cannot_be_reached(tmp_path: Path, idp: IdentityProvider) -> None:
    (tmp_path / "client").write_text("secret")
    settings = settings_for(
        tmp_path,
        idp,
        credentials={
            "exchange": [
                {
                    "issuers": [ISSUER],
                    "endpoint": "http://127.0.0.1:1/token",
                    "client_id": "us",
                    "client_secret_file": tmp_path / "client",
                }
            ]
        },
    )
    (away,) = await found(service.checks(settings))
    assert (away.level, "Connection refused" in away.text) == (Level.FAIL, True)


async def test_the_doctor_follows_the_file_of_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = tmp_path / "admin.toml"
    admin.write_text('target = "127.0.0.1:1"\n')
    monkeypatch.setenv("AUTHSVC_ADMIN_CONFIG", str(admin))
    ran = await run_here("doctor", "--config", tmp_path / "none.toml", "--json", *PATIENT)
    found = [it["text"] for it in ran.json()["findings"] if it["subject"] == "authsvc"]
    assert found == ["127.0.0.1:1: Connection refused"]
