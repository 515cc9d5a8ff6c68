"""What doctor says about an endpoint of an authorization server, by what is wrong with it."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from authsvc.diagnosis import Check, Finding, Level, diagnose, introspection, reach, service
from authsvc.diagnosis.endpoint_remedies import Place, remedy_of_failure
from authsvc.net import fetching
from authsvc.net.failures import Failure, Stage
from authsvc.server.config import Settings
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.http import Answer, Site, serving_http
from tests.support.https import PrivateAuthority, serving_https, tunnelling
from tests.support.service import settings_for
from tests.support.sockets import serving_tcp
from tests.support.tokens import ISSUER, IdentityProvider

pytestmark = pytest.mark.anyio

SECRET = "hush-a-client-secret"
PAGE = b"<!doctype html><title>Sign in</title>"

Table = dict[str, object]
Fault = Callable[[Path], AbstractAsyncContextManager[Table]]
"""Runs what is at fault, and says which settings lead there."""


async def found(checks: Iterable[Check]) -> Finding:
    findings = [it async for it in diagnose(checks, timeout_seconds=TIMEOUT_SECONDS)]
    (finding,) = findings
    return finding


def introspected(folder: Path, idp: IdentityProvider, table: Table) -> list[Check]:
    values = {"issuer": "https://introspected.example", **client(folder), **table}
    return introspection.checks(settings_for(folder, idp, introspection=values))


def exchanged(folder: Path, idp: IdentityProvider, table: Table) -> list[Check]:
    values = {"issuers": [ISSUER], **client(folder), **table}
    settings: Settings = settings_for(folder, idp, credentials={"exchange": [values]})
    # Its ca_file may have a finding of its own.
    return [it for it in service.checks(settings) if it.subject != "certificates"]


def client(folder: Path) -> Table:
    (folder / "client-secret").write_text(SECRET)
    return {"client_id": "authsvc", "client_secret_file": folder / "client-secret"}


def at(endpoint: str, **table: object) -> Fault:
    @asynccontextmanager
    async def fault(folder: Path) -> AsyncIterator[Table]:
        yield {"endpoint": endpoint, **table}

    return fault


SLOW = "Allow the connection in the firewall, NAT or network policy, or set {}.proxy. If the serv"


@asynccontextmanager
async def no_tls(folder: Path) -> AsyncIterator[Table]:
    with serving_http() as site:
        yield {"endpoint": f"{site.url.replace('http:', 'https:')}/introspect"}


@asynccontextmanager
async def denied_by_proxy(folder: Path) -> AsyncIterator[Table]:
    async with tunnelling() as proxy:
        proxy.answer = b"407 Proxy Authentication Required"
        yield {"endpoint": "https://idp.example/introspect", "proxy": proxy.url}


def speaking_tls(context: Callable[[PrivateAuthority], ssl.SSLContext], *, trusted: bool) -> Fault:
    @asynccontextmanager
    async def fault(folder: Path) -> AsyncIterator[Table]:
        authority = PrivateAuthority(folder)
        async with serving_https(context(authority)) as site:
            table: Table = {"endpoint": f"{site.url}/introspect"}
            yield {**table, "ca_file": authority.file()} if trusted else table

    return fault


UNREACHED = {
    "lookup": (at("https://nowhere.invalid/introspect"), "Correct the host in {}.endpoint, or"),
    "refused": (at("http://127.0.0.1:1/introspect"), "Nothing listens there: correct the port"),
    "proxy's answer": (denied_by_proxy, "or correct {}.proxy: its user and password"),
    "proxy": (
        at("https://idp.example/x", proxy="http://127.0.0.1:1"),
        "Correct {}.proxy, or start that proxy",
    ),
    "proxy's name": (
        at("https://idp.example/x", proxy="http://nowhere.invalid:1"),
        "Correct {}.proxy, or start that proxy",
    ),
    "untrusted": (speaking_tls(PrivateAuthority.server, trusted=False), "Set {}.ca_file to"),
    "expired": (
        speaking_tls(lambda it: it.server(days=-0.001), trusted=True),
        "Renew the server's certificate, or correct this machine's clock",
    ),
    "other name": (
        speaking_tls(lambda it: it.server("idp.example"), trusted=True),
        "the server's certificate is for another name",
    ),
    "no TLS": (no_tls, "Correct the port in {}.endpoint, if no TLS is spoken there"),
}


@pytest.fixture
def no_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name of ``.invalid`` is asked of a server, which might not answer in time."""
    look_up = socket.getaddrinfo

    def looked_up(
        host: str | None, port: int | None, family: int = 0, kind: int = 0, *rest: int
    ) -> list[tuple[object, ...]]:
        if str(host).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [*look_up(host, port, family, kind, *rest)]

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)


@pytest.mark.usefixtures("no_resolver")
@pytest.mark.parametrize(("fault", "remedy"), UNREACHED.values(), ids=UNREACHED)
@pytest.mark.parametrize(
    ("checks", "table"), [(introspected, "introspection"), (exchanged, "credentials.exchange")]
)
async def test_an_endpoint_that_is_not_reached(
    tmp_path: Path,
    idp: IdentityProvider,
    checks: Callable[[Path, IdentityProvider, Table], list[Check]],
    table: str,
    fault: Fault,
    remedy: str,
) -> None:
    async with fault(tmp_path) as settings:
        finding = await found(checks(tmp_path, idp, settings))
    assert finding.level is Level.FAIL
    assert remedy.format(table) in finding.remedy
    assert "{" not in finding.remedy
    assert SECRET not in repr(finding)


async def test_endpoints_that_do_not_answer(
    tmp_path: Path, idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "FETCH_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(reach, "REACH_SECONDS", 0.1)
    async with serving_tcp(lambda reader, _: reader.read()) as (_, port):
        without_answer: Table = {"endpoint": f"http://localhost:{port}/introspect"}
        asked = await found(introspected(tmp_path, idp, without_answer))
        without_handshake: Table = {"endpoint": f"https://localhost:{port}/token"}
        connected = await found(exchanged(tmp_path, idp, without_handshake))
    assert "no answer in 0.1 seconds" in asked.text
    assert asked.remedy.startswith(SLOW.format("introspection"))
    assert "no connection in 0.1 seconds" in connected.text
    assert connected.remedy.startswith(SLOW.format("credentials.exchange"))


@pytest.fixture
def site() -> Iterable[Site]:
    with serving_http() as running:
        yield running


def error(code: str) -> bytes:
    return json.dumps({"error": code}).encode()


@pytest.mark.parametrize(
    ("answer", "remedy"),
    [
        (Answer(error("invalid_request"), 400), "Compare the request with the server's docum"),
        (Answer(error("invalid_client"), 400), "Compare introspection.client_id"),
        (Answer(error("invalid_client"), 401), "Compare introspection.client_id"),
        (Answer(b"", 401), "Compare introspection.client_id"),
        (Answer(b"", 403), "Permit authsvc's client, introspection.client_id"),
        (Answer(PAGE, 404), "Correct introspection.endpoint: the server's metadata"),
        (Answer(b"", 405), "Correct introspection.endpoint: the server's metadata"),
        (Answer(b"", 302, {"Location": "/login"}), "Correct introspection.endpoint: the server's"),
        (Answer(b"", 429), "Raise the server's limit"),
        (Answer(PAGE, 502), "The server's own log"),
        (Answer(b"", 418), "Correct the cause, or [introspection]."),
        (Answer(PAGE), "let authsvc's requests pass the gateway"),
        (Answer(b"\n <?xml version='1.0'?>"), "let authsvc's requests pass the gateway"),
        (Answer(b"e30.e30.AA"), "Have it answer in JSON"),
        (Answer(b""), "Have it answer in JSON"),
        (Answer(b'["active"]'), "Have it answer in JSON"),
        (Answer(b'{"active":false,"active":true}'), "Have it answer in JSON"),
        (Answer(b'{"sub":"alice"}'), "the issuer's metadata has it as introspection_endpoint"),
        (Answer(b'{"active":"false"}'), "the issuer's metadata has it as introspection_endpoint"),
        (Answer(b'{"active":null}'), "the issuer's metadata has it as introspection_endpoint"),
        (Answer(b'{"active":true}'), "where every token is active, anybody gets in"),
    ],
    ids=lambda value: f"{value.status} {value.body!r:.30}" if isinstance(value, Answer) else "",
)
async def test_an_answer_of_an_introspection_endpoint(
    tmp_path: Path, idp: IdentityProvider, site: Site, answer: Answer, remedy: str
) -> None:
    site.answers["/introspect"] = answer
    finding = await found(introspected(tmp_path, idp, {"endpoint": f"{site.url}/introspect"}))
    assert finding.level is Level.FAIL
    assert finding.remedy.startswith(remedy) or remedy in finding.remedy
    assert "Sign in" not in finding.text
    assert SECRET not in repr(finding)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b'{"active":false}'),
        Answer(b'\xef\xbb\xbf{"active":false}'),
        Answer(error("invalid_token"), 400),
    ],
    ids=["inactive", "with a byte order mark", "an error about the token"],
)
async def test_an_introspection_endpoint_that_works(
    tmp_path: Path, idp: IdentityProvider, site: Site, answer: Answer
) -> None:
    site.answers["/introspect"] = answer
    finding = await found(introspected(tmp_path, idp, {"endpoint": f"{site.url}/introspect"}))
    assert (finding.level, finding.remedy) == (Level.OK, "")


@pytest.mark.parametrize("failure", [it for it in Failure if it is not Failure.ANSWER])
def test_each_failure_has_a_remedy_of_its_own(failure: Failure) -> None:
    place = Place("credentials.sts", "endpoint_url")
    others = {remedy_of_failure(it, place) for it in Failure if it is not failure}
    assert remedy_of_failure(failure, place) not in others
    behind = remedy_of_failure(failure, Place("credentials.sts", "endpoint_url", has_proxy=True))
    is_of_proxy = failure.stage is Stage.CONNECTION
    assert ("credentials.sts.proxy" in behind) == is_of_proxy
