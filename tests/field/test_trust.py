"""Issuers behind a private authority or an egress proxy, and failures that are named."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ProxyConnectionError, SSLError
from pydantic import ValidationError

from authsvc.common.settings import ConfigError
from authsvc.credentials.aws import KeyFiles, sts_client
from authsvc.diagnosis.reach import reach
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import AwsCredentials, Secret
from authsvc.domain.tokens import BearerToken
from authsvc.net import trust
from authsvc.net.failures import explained
from authsvc.net.fetching import Fetcher, FetchError
from authsvc.net.proxies import Proxy, read_proxy
from authsvc.net.trust import Trust
from authsvc.net.watched_file import WATCH_INTERVAL_SECONDS
from authsvc.server.config import (
    ExchangeSettings,
    IntrospectionSettings,
    IssuerSettings,
    StsSettings,
)
from authsvc.server.egress import fetcher_of
from authsvc.server.issuers import issuer_of
from authsvc.tokens.jwt import Issuer, JwtVerifier
from mcp_adapter.tools.s3 import S3Clients
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START, Clock
from tests.support.https import (
    PrivateAuthority,
    TlsSite,
    Tunnels,
    serving_context,
    serving_https,
    tunnelling,
)
from tests.support.keys import jwks, signer
from tests.support.sockets import serving_tcp
from tests.support.tokens import RESOURCE

if TYPE_CHECKING:
    from types_aiobotocore_sts import STSClient

pytestmark = pytest.mark.anyio

KEY = signer("k1")
ARN = "arn:aws:iam::123456789012:role/r"
PASSWORD = "hush-p%40ss"


@pytest.fixture
def authority(tmp_path: Path) -> PrivateAuthority:
    return PrivateAuthority(tmp_path)


@pytest.fixture
async def site(authority: PrivateAuthority) -> AsyncIterator[TlsSite]:
    async with serving_https(authority.server()) as running:
        running.answers["/jwks"] = jwks(KEY)
        metadata = {"issuer": running.url, "jwks_uri": f"{running.url}/jwks"}
        running.answers["/.well-known/openid-configuration"] = json.dumps(metadata).encode()
        yield running


@pytest.fixture
async def proxy() -> AsyncIterator[Tunnels]:
    async with tunnelling() as running:
        yield running


def configured(site: TlsSite, **settings: object) -> Issuer:
    table = {"issuer": site.url, "algorithms": ["ES256"], "discover": True, **settings}
    return issuer_of(IssuerSettings.model_validate(table))


async def accepts(issuer: Issuer) -> bool:
    """Whether its keys are found, and a token of it is accepted."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await issuer.keys.refresh(START)
    token = BearerToken(KEY.token(START, iss=issuer.issuer))
    try:
        await JwtVerifier([issuer]).verify(token, resource=RESOURCE, now=START)
    except AuthError as error:
        assert error.reason is Reason.KEYS_UNAVAILABLE  # noqa: PT017 - the other outcome
        return False
    return True


async def refused(fetcher: Fetcher, url: str) -> str:
    with pytest.raises(FetchError) as caught:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await fetcher.get(url)
    return str(caught.value)


# Authorities.


async def test_a_private_authority_is_trusted_beside_the_systems(
    site: TlsSite, authority: PrivateAuthority
) -> None:
    source = configured(site)
    assert not await accepts(source)
    assert "certificate verify failed" in source.keys.failure
    assert "set ca_file" in source.keys.failure
    assert site.requests == []
    assert await accepts(configured(site, ca_file=authority.file()))
    trusted = Trust(authority.file()).context().cert_store_stats()["x509_ca"]
    assert trusted == trust.tls_context().cert_store_stats()["x509_ca"] + 1


async def test_the_certificate_of_the_server_itself_may_be_given(tmp_path: Path) -> None:
    authority = PrivateAuthority(tmp_path)
    context = authority.server()
    async with serving_https(context) as site:
        site.answers["/jwks"] = jwks(KEY)
        await Fetcher(trust=Trust(tmp_path / "server.pem")).get(f"{site.url}/jwks")


async def test_the_systems_store_is_where_openssl_is_told(
    site: TlsSite, authority: PrivateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file()))
    trust.tls_context.cache_clear()
    try:
        assert await accepts(configured(site))
    finally:
        monkeypatch.delenv("SSL_CERT_FILE")
        trust.tls_context.cache_clear()
    assert not await accepts(configured(site))


async def test_a_changed_ca_file_takes_effect(
    site: TlsSite, authority: PrivateAuthority, tmp_path: Path
) -> None:
    clock = Clock()
    other = PrivateAuthority(tmp_path)
    path = other.file()
    fetcher = Fetcher(trust=Trust(path, clock))

    def changed(content: bytes) -> None:
        path.write_bytes(content)
        clock.advance(WATCH_INTERVAL_SECONDS)

    assert "certificate verify failed" in await refused(fetcher, f"{site.url}/jwks")
    changed(authority.authority.certificate_pem())
    await fetcher.get(f"{site.url}/jwks")
    # What cannot be used leaves the last in force; what can, but lists another, does not.
    for content in (b"", b"no PEM", b"\xff"):
        changed(content)
        await fetcher.get(f"{site.url}/jwks")
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    changed(broken + other.authority.certificate_pem())
    assert "certificate verify failed" in await refused(fetcher, f"{site.url}/jwks")
    path.unlink()
    clock.advance(WATCH_INTERVAL_SECONDS)
    assert "certificate verify failed" in await refused(fetcher, f"{site.url}/jwks")


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_ca_file_that_cannot_be_used_stops_the_start(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"issuers\[https://localhost:1\]\.ca_file: .*ca\.pem"):
        configured(TlsSite(1), ca_file=path)


# Failures by name.


async def test_a_certificate_that_has_expired(authority: PrivateAuthority) -> None:
    async with serving_https(authority.server(days=-0.001)) as site:
        told = await refused(Fetcher(trust=Trust(authority.file())), f"{site.url}/jwks")
    assert "certificate verify failed: certificate has expired; renew it there" in told


async def test_a_certificate_for_another_host(authority: PrivateAuthority) -> None:
    async with serving_https(authority.server("idp.example")) as site:
        for host in ("localhost", "127.0.0.1"):
            told = await refused(
                Fetcher(trust=Trust(authority.file())), f"https://{host}:{site.port}/jwks"
            )
            assert "host name mismatch: it is for another host" in told


async def test_a_certificate_that_signs_itself(authority: PrivateAuthority) -> None:
    context = serving_context(authority.folder, authority.authority)
    async with serving_https(context) as site:
        told = await refused(Fetcher(), f"{site.url}/jwks")
    assert "certificate verify failed: self-signed certificate; if a private authority" in told
    assert "set ca_file" in told


async def test_a_name_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolved(host: str, port: int, **how: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
    told = await refused(Fetcher(), "https://idp.invalid/jwks")
    assert "the host has no address: DNS: name or service not known" in told


async def test_a_port_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "Connection refused" in await refused(Fetcher(), f"http://127.0.0.1:{port}/jwks")


async def test_servers_that_speak_something_else() -> None:
    async def ssh(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"SSH-2.0-server\r\n\r\n")
        await writer.drain()

    async with serving_tcp(ssh) as (_, port):
        assert "the answer is not HTTP" in await refused(Fetcher(), f"http://127.0.0.1:{port}/")
        assert "TLS failed: " in await refused(Fetcher(), f"https://127.0.0.1:{port}/")


async def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authsvc.net.fetching.FETCH_TIMEOUT_SECONDS", 0.1)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving_tcp(silent) as (_, port):
        told = await refused(Fetcher(), f"http://127.0.0.1:{port}/")
    assert "no answer in" in told


# Proxies.


async def test_an_issuer_behind_an_egress_proxy(
    site: TlsSite, authority: PrivateAuthority, proxy: Tunnels
) -> None:
    assert await accepts(configured(site, ca_file=authority.file(), proxy=proxy.url))
    assert set(proxy.targets) == {f"CONNECT localhost:{site.port} HTTP/1.1"}
    assert len(proxy.targets) == len(site.requests)
    # TLS goes from end to end.
    assert b"jwks" not in proxy.received
    assert b"HTTP/1.1" not in proxy.received
    source = configured(site, proxy=proxy.url)
    assert not await accepts(source)
    assert "certificate verify failed" in source.keys.failure


async def test_a_proxy_looks_names_up_itself(
    site: TlsSite, authority: PrivateAuthority, proxy: Tunnels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an egress proxy is needed, names of the Internet often have no address inside."""
    proxy.hosts["idp.invalid"] = "127.0.0.1"
    async with serving_https(authority.server("idp.invalid")) as public:
        public.answers["/jwks"] = b"{}"
        fetcher = Fetcher(trust=Trust(authority.file()), proxy=read_proxy(proxy.url))
        await fetcher.get(f"https://idp.invalid:{public.port}/jwks")
        await fetcher.post(f"https://idp.invalid:{public.port}/jwks", {"token": "t"}, {})
    assert proxy.targets == [f"CONNECT idp.invalid:{public.port} HTTP/1.1"] * 2
    assert public.bodies == [b"", b"token=t"]


async def test_what_never_goes_through_a_proxy(proxy: Tunnels) -> None:
    through = Fetcher(proxy=read_proxy(proxy.url))
    for url, complaint in {
        "http://127.0.0.1:9/jwks": "only https goes through a proxy",
        "http://localhost:9/jwks": "only https goes through a proxy",
        "https://10.0.0.1/jwks": "10.0.0.1 is not public",
        "https://169.254.169.254/latest": "169.254.169.254 is not public",
        "https://[fd00:ec2::254]/latest": "fd00:ec2::254 is not public",
        "http://idp.example/jwks": "is not an https URL",
    }.items():
        assert complaint in await refused(through, url)
    assert proxy.heads == []


async def test_a_proxy_with_a_password(
    site: TlsSite, authority: PrivateAuthority, proxy: Tunnels, caplog: pytest.LogCaptureFixture
) -> None:
    url = proxy.url.replace("://", f"://user:{PASSWORD}@")
    source = configured(site, ca_file=authority.file(), proxy=url)
    assert await accepts(source)
    assert "Proxy-Authorization: Basic dXNlcjpodXNoLXBAc3M=\r\n" in proxy.heads[0]
    shown = [repr(read_proxy(url)), str(read_proxy(url)), caplog.text]
    proxy.answer = b"407 hush\x1b"
    refusing = configured(site, ca_file=authority.file(), proxy=url)
    assert not await accepts(refusing)
    assert f"through the proxy {proxy.url}: ProxyError: it answered 407" in refusing.keys.failure
    settings = IssuerSettings.model_validate(
        {"issuer": site.url, "algorithms": ["ES256"], "discover": True, "proxy": url}
    )
    shown += [refusing.keys.failure, repr(settings), str(settings), settings.model_dump_json()]
    assert [text for text in shown if "hush" in text] == []


async def test_a_proxy_that_is_not_there_is_named(site: TlsSite) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    through = Fetcher(proxy=Proxy(f"http://127.0.0.1:{port}"))
    told = await refused(through, f"{site.url}/jwks")
    assert f"through the proxy http://127.0.0.1:{port}: ConnectError: Connection refused" in told
    lost = Fetcher(proxy=Proxy("http://proxy.invalid:3128"))
    assert "through the proxy http://proxy.invalid:3128: " in await refused(lost, site.url)


async def test_a_proxy_over_tls(site: TlsSite, authority: PrivateAuthority) -> None:
    file = authority.file()
    async with tunnelling(authority.server("localhost")) as secure:
        assert await accepts(configured(site, ca_file=file, proxy=secure.url))
        assert len(secure.heads) == len(site.requests)
        assert not await accepts(configured(site, proxy=secure.url))


def introspection(**settings: object) -> IntrospectionSettings:
    return IntrospectionSettings.model_validate(
        {
            "issuer": "https://as.example",
            "endpoint": "https://as.example/introspect",
            "client_id": "authsvc",
            "client_secret_file": "/secret",
            **settings,
        }
    )


def exchange(**settings: object) -> ExchangeSettings:
    return ExchangeSettings.model_validate(
        {
            "issuers": ["https://as.example"],
            "endpoint": "https://as.example/token",
            "client_id": "authsvc",
            "client_secret_file": "/secret",
            **settings,
        }
    )


def issuer(**settings: object) -> IssuerSettings:
    return IssuerSettings.model_validate(
        {
            "issuer": "https://as.example",
            "jwks_url": "https://as.example/jwks",
            "algorithms": ["ES256"],
            **settings,
        }
    )


TABLES: list[Callable[..., IssuerSettings | IntrospectionSettings | ExchangeSettings]] = [
    issuer,
    introspection,
    exchange,
]


@pytest.mark.parametrize("table", TABLES)
async def test_each_endpoint_has_its_own_authorities_and_proxy(
    table: Callable[..., IntrospectionSettings],
    site: TlsSite,
    authority: PrivateAuthority,
    proxy: Tunnels,
) -> None:
    fetcher = fetcher_of(table(ca_file=authority.file(), proxy=proxy.url), "table")
    await fetcher.get(f"{site.url}/jwks")
    assert len(proxy.heads) == 1
    assert fetcher_of(table(), "table") == Fetcher()


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "url",
    [
        "proxy.example:3128",
        "socks5://proxy.example:1080",
        "http://",
        "http://proxy.example/path",
        "http://proxy.example?x",
        "http://us er:hush@proxy.example",
        "http://user:hush@",
        "",
    ],
)
def test_a_proxy_is_an_http_url(table: Callable[..., IntrospectionSettings], url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        table(proxy=url)
    (error,) = caught.value.errors(include_input=False)
    assert "is a URL like http://proxy.example.com:3128" in error["msg"]
    assert "hush" not in str(error)


@pytest.mark.parametrize(
    "settings",
    [
        {"jwks_url": "http://127.0.0.1/jwks"},
        {"jwks_url": None, "metadata_url": "http://127.0.0.1/metadata"},
        {"jwks_url": None, "issuer": "http://localhost:1", "discover": True},
        {"jwks_url": None, "jwks_file": "/jwks"},
        {"jwks_url": None, "secret_file": "/secret", "algorithms": ["HS256"]},
    ],
)
@pytest.mark.parametrize("added", [{"ca_file": "/ca"}, {"proxy": "http://proxy.example:3128"}])
def test_settings_of_https_that_would_have_no_effect_are_refused(
    settings: dict[str, object], added: dict[str, object]
) -> None:
    issuer(**settings)
    with pytest.raises(ValidationError, match=r"goes with https alone|has no effect"):
        issuer(**settings, **added)
    for other in (introspection, exchange):
        with pytest.raises(ValidationError, match="goes with https alone"):
            other(endpoint="http://127.0.0.1/it", **added)


# AWS, whose library has a list of authorities of its own.

NOBODY = {
    "AccessKeyId": "ASIA",
    "SecretAccessKey": "s",
    "SessionToken": "t",
    "Expiration": "2030-01-01T00:00:00Z",
}
STS_ANSWER = (
    "<AssumeRoleResponse><AssumeRoleResult><Credentials>"
    + "".join(f"<{name}>{value}</{name}>" for name, value in NOBODY.items())
    + "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
)


async def assumed(
    site: TlsSite, folder: Path, authorities: Trust | None = None, through: Proxy | None = None
) -> str:
    """The id of the key that STS at a site answers with."""
    secret = folder / "secret"
    secret.write_text("secret")
    async with sts_client(
        KeyFiles("AKIATEST", secret),
        region="us-east-1",
        endpoint_url=site.url,
        trust=authorities,
        proxy=through,
    ) as client:
        return await key_id(client)


async def key_id(client: STSClient) -> str:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        answer = await client.assume_role(RoleArn="a" * 20, RoleSessionName="ab")
    return answer["Credentials"]["AccessKeyId"]


async def test_sts_trusts_the_systems_authorities_and_a_ca_file(
    site: TlsSite, authority: PrivateAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.answers["/"] = STS_ANSWER.encode()
    with pytest.raises(SSLError) as caught:
        await assumed(site, tmp_path)
    assert "SSLError: certificate verify failed: " in explained(caught.value)
    assert await assumed(site, tmp_path, Trust(authority.file())) == "ASIA"
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file()))
    trust.tls_context.cache_clear()
    try:
        assert await assumed(site, tmp_path) == "ASIA"
    finally:
        trust.tls_context.cache_clear()


async def test_sts_follows_a_changed_ca_file(
    site: TlsSite, authority: PrivateAuthority, tmp_path: Path
) -> None:
    site.answers["/"] = STS_ANSWER.encode()
    clock = Clock()
    path = authority.file()
    secret = tmp_path / "secret"
    secret.write_text("secret")
    async with sts_client(
        KeyFiles("AKIATEST", secret),
        region="us-east-1",
        endpoint_url=site.url,
        trust=Trust(path, clock),
    ) as client:
        assert await key_id(client) == "ASIA"
        path.write_bytes(PrivateAuthority(tmp_path).authority.certificate_pem())
        clock.advance(WATCH_INTERVAL_SECONDS)
        with pytest.raises(SSLError):
            await key_id(client)


async def test_sts_through_an_egress_proxy(
    site: TlsSite, authority: PrivateAuthority, proxy: Tunnels, tmp_path: Path
) -> None:
    site.answers["/"] = STS_ANSWER.encode()
    through = read_proxy(proxy.url.replace("://", f"://user:{PASSWORD}@"))
    assert await assumed(site, tmp_path, Trust(authority.file()), through) == "ASIA"
    assert proxy.targets == [f"CONNECT localhost:{site.port} HTTP/1.1"]
    assert "Proxy-Authorization: Basic dXNlcjpodXNoLXBAc3M=\r\n" in proxy.heads[0]
    proxy.answer = b"403 No"
    with pytest.raises(ProxyConnectionError) as caught:
        await assumed(site, tmp_path, Trust(authority.file()), through)
    assert "hush" not in explained(caught.value)


async def test_s3_trusts_the_systems_authorities(
    site: TlsSite, authority: PrivateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.answers["/alpha/k"] = b"content"
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file()))
    trust.tls_context.cache_clear()
    clients = S3Clients(endpoint_url=site.url, region="us-east-1")
    try:
        async with clients.client(
            AwsCredentials("AKIATEST", Secret("secret"), None, "us-east-1", 0.0)
        ) as client:
            answer = await client.get_object(Bucket="alpha", Key="k")
            assert await answer["Body"].read() == b"content"
    finally:
        await clients.close()
        trust.tls_context.cache_clear()


def test_sts_without_https_has_neither() -> None:
    table = {"region": "us-east-1", "ambient": True, "roles": [{"issuer": "i", "arn": ARN}]}
    StsSettings.model_validate(table | {"proxy": "http://proxy.example:3128"})
    StsSettings.model_validate(table | {"ca_file": "/ca"})
    for added in ({"ca_file": "/ca"}, {"proxy": "http://proxy.example:3128"}):
        with pytest.raises(ValidationError, match="goes with https alone"):
            StsSettings.model_validate(table | added | {"endpoint_url": "http://127.0.0.1:1"})


# What the doctor tries, without a request.


async def test_doctor_connects_as_the_broker_does(
    site: TlsSite, authority: PrivateAuthority, proxy: Tunnels
) -> None:
    authorities = Trust(authority.file())
    through = read_proxy(proxy.url.replace("://", f"://user:{PASSWORD}@"))
    await reach(site.url, authorities, None)
    assert proxy.heads == []
    await reach(site.url, authorities, through)
    assert proxy.targets == [f"CONNECT localhost:{site.port} HTTP/1.1"]
    assert "Proxy-Authorization: Basic dXNlcjpodXNoLXBAc3M=\r\n" in proxy.heads[0]
    for way in (None, read_proxy(proxy.url)):
        with pytest.raises(ssl.SSLCertVerificationError):
            await reach(site.url, None, way)
    for answer in (b"407 No", b"100 Continue", b"x"):
        proxy.answer = answer
        with pytest.raises(
            ConnectionError, match=r"the proxy http://127.0.0.1:.* answered"
        ) as caught:
            await reach(site.url, authorities, through)
        assert "hush" not in str(caught.value)
    assert site.requests == []


async def test_doctor_at_a_proxy_that_is_none(authority: PrivateAuthority) -> None:
    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async with serving_tcp(closes) as (host, port):
        with pytest.raises(ConnectionError, match=r"does not answer in HTTP|reset"):
            await reach("https://idp.example", None, Proxy(f"http://{host}:{port}"))


async def test_doctor_through_a_proxy_over_tls(site: TlsSite, authority: PrivateAuthority) -> None:
    async with tunnelling(authority.server("localhost")) as secure:
        await reach(site.url, Trust(authority.file()), read_proxy(secure.url))
        assert secure.targets == [f"CONNECT localhost:{site.port} HTTP/1.1"]
