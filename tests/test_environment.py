"""The environment that libraries read has no effect: none of its proxies receives a byte."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from click.testing import CliRunner
from cryptography import x509
from grpc import aio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector

import authsvc.cli
import authsvc.console.cli
import mcp_adapter.server.cli
from authsvc.cli.health import http_status
from authsvc.client import AdminClient, AuthClient, BlockingAuthClient
from authsvc.client.health import probe as probe_health
from authsvc.common.aws_isolation import isolated_session
from authsvc.common.process import DEBUG_SWITCHES
from authsvc.credentials.aws import KeyFiles, sts_client
from authsvc.diagnosis import adapter as adapter_diagnosis
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import AwsCredentials, Secret
from authsvc.net.certificates import issue, make_authority
from authsvc.net.channels import LASTING, open_channel
from authsvc.net.fetching import Fetcher
from authsvc.server.running import running
from authsvc.telemetry.settings import TracingSettings
from authsvc.telemetry.tracing import tracing
from mcp_adapter.tools.s3 import S3Clients
from tests.support.clock import Clock
from tests.support.http import Answer, Site, serving_http
from tests.support.service import settings_for
from tests.support.tokens import RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[1]
PROGRAMS = (
    *("authsvc", "mcp_adapter", "bench", "chaos", "conformance", "demo", "drills", "examples"),
    *("fuzz", "scripts"),
)
BOUND_SECONDS = 60

Target = Callable[[str], Awaitable[object]]


class Proxy:
    """A proxy of the environment: it takes connections, and says whether any came."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        listener.setblocking(False)

    async def connected_to(self) -> None:
        """Wait until somebody has connected."""
        connection, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        connection.close()

    def was_connected_to(self) -> bool:
        """Whether anybody has connected since the last time."""
        with suppress(BlockingIOError):
            self._listener.accept()[0].close()
            return True
        return False


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that every library is told of, in each of the ways that one of them knows."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        proxy = Proxy(listener)
        for scheme in ("http", "https", "all", "grpc"):
            for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper()):
                monkeypatch.setenv(name, f"http://{proxy.address}")
        for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("GRPC_ADDRESS_HTTP_PROXY", proxy.address)
        monkeypatch.setenv("GRPC_ADDRESS_HTTP_PROXY_ENABLED_ADDRESSES", "127.0.0.0/8")
        yield proxy


@pytest.fixture
def site() -> Iterator[Site]:
    with serving_http() as site:
        site.answers["/"] = Answer(b"{}")
        yield site


@pytest.mark.parametrize("by_address", [True, False])
async def test_the_proxy_is_used_without_isolation(
    proxy: Proxy, by_address: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By gRPC as it comes, in both of its ways."""
    for name in list(os.environ):
        if "PROXY" in name.upper() and name.startswith("GRPC_ADDRESS") != by_address:
            monkeypatch.delenv(name)
    async with aio.insecure_channel("127.0.0.1:9") as channel:
        channel.get_state(try_to_connect=True)
        async with asyncio.timeout(BOUND_SECONDS):
            await proxy.connected_to()


async def client(address: str) -> None:
    async with AuthClient(address, deadline_seconds=BOUND_SECONDS) as opened:
        await opened.resolve("s", "", resource=RESOURCE, create=True)


async def client_by_calls(address: str) -> None:
    async with AuthClient(address, deadline_seconds=BOUND_SECONDS, streams=False) as opened:
        await opened.resolve("s", "", resource=RESOURCE, create=True)


async def blocking_client(address: str) -> None:
    def resolve() -> None:
        with BlockingAuthClient(address, deadline_seconds=BOUND_SECONDS) as opened:
            opened.resolve("s", "", resource=RESOURCE, create=True)

    await asyncio.to_thread(resolve)


async def admin_client(address: str) -> None:
    async with AdminClient(address, deadline_seconds=BOUND_SECONDS) as opened:
        with pytest.raises(AuthError) as caught:
            await opened.get("s")
        # authsvc has answered.
        assert caught.value.reason is Reason.CALLER_NOT_ALLOWED


async def health_probe(address: str) -> None:
    assert (await probe_health(address, timeout_seconds=BOUND_SECONDS)).serving


@pytest.mark.parametrize(
    "target", [client, client_by_calls, blocking_client, admin_client, health_probe]
)
async def test_no_client_of_authsvc_uses_a_proxy_of_the_environment(
    target: Target, proxy: Proxy, tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    settings = settings_for(tmp_path, idp, listen="127.0.0.1:0")
    async with running(settings, clock=clock) as address:
        await target(address)
    assert not proxy.was_connected_to()


@pytest.mark.parametrize("secure", [False, True])
async def test_no_channel_to_another_machine_uses_a_proxy_of_the_environment(
    proxy: Proxy, *, secure: bool
) -> None:
    credentials = grpc.ssl_channel_credentials() if secure else None
    async with open_channel("authsvc.invalid:50051", credentials, LASTING) as channel:
        state = channel.get_state(try_to_connect=True)
        async with asyncio.timeout(BOUND_SECONDS):
            # By a proxy, it would look up and connect to that.
            while state is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                await channel.wait_for_state_change(state)
                state = channel.get_state()
    assert not proxy.was_connected_to()


@asynccontextmanager
async def collecting(
    credentials: grpc.ServerCredentials | None = None,
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A collector of traces: its port, and what it has received."""
    exported: list[bytes] = []

    async def export(request: bytes, context: object) -> bytes:
        exported.append(request)
        return collector.ExportTraceServiceResponse().SerializeToString()

    server = aio.server()
    name = "opentelemetry.proto.collector.trace.v1.TraceService"
    handlers: dict[str, Any] = {"Export": grpc.unary_unary_rpc_method_handler(export)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield port, exported
    finally:
        await server.stop(None)


async def export(endpoint: str) -> None:
    async with tracing(TracingSettings(endpoint=endpoint), "test") as traces:
        with traces.server_span("a request"):
            pass


async def test_the_exporter_of_traces_uses_no_proxy_of_the_environment(proxy: Proxy) -> None:
    async with collecting() as (port, exported):
        await export(f"http://127.0.0.1:{port}")
    assert exported
    assert not proxy.was_connected_to()


async def test_the_exporter_of_traces_trusts_the_systems_authorities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = make_authority("CA", days=1)
    server = issue(authority, "collector", [x509.DNSName("localhost")], days=1)
    path = tmp_path / "ca.pem"
    path.write_bytes(authority.certificate_pem())
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    credentials = grpc.ssl_server_credentials([(server.key_pem(), server.certificate_pem())])
    async with collecting(credentials) as (port, exported):
        await export(f"https://localhost:{port}")
    assert exported


async def fetched(url: str) -> None:
    assert (await Fetcher().get(f"{url}/"))[0] == b"{}"


async def posted(url: str) -> None:
    """As introspection and the exchange of tokens do."""
    assert (await Fetcher().post(f"{url}/", {"token": "t"}, {}))[0] == b"{}"


async def doctor(url: str) -> None:
    assert await adapter_diagnosis._get(f"{url}/") == (200, b"{}")


async def probe(url: str) -> None:
    assert await asyncio.to_thread(http_status, f"{url}/", timeout_seconds=BOUND_SECONDS) == 200


async def sts(url: str) -> None:
    identity = KeyFiles("AKIATEST", Path(__file__))
    async with sts_client(identity, region="us-east-1", endpoint_url=url) as opened:
        with pytest.raises((ClientError, BotoCoreError, ResponseParserError, KeyError)):
            (await opened.assume_role(RoleArn="a" * 20, RoleSessionName="ab"))["Credentials"]


async def s3(url: str) -> None:
    clients = S3Clients(endpoint_url=url, region="us-east-1")
    credentials = AwsCredentials("AKIATEST", Secret("secret"), None, "us-east-1", 0.0)
    try:
        async with clients.client(credentials) as opened:
            with suppress(ClientError, BotoCoreError):
                await opened.get_object(Bucket="alpha", Key="k")
    finally:
        await clients.close()


@pytest.mark.parametrize("target", [fetched, posted, doctor, probe, sts, s3])
async def test_no_client_of_http_uses_a_proxy_of_the_environment(
    target: Target, proxy: Proxy, site: Site
) -> None:
    await target(site.url)
    assert site.requests
    assert not proxy.was_connected_to()


async def test_no_request_has_a_password_from_netrc(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    await posted(site.url)
    assert "Authorization" not in site.posted[0][0]


async def test_certificate_authorities_are_the_machines(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(tmp_path / "missing.pem"))
    # A bundle that cannot be read would be an error.
    for target in (sts, s3):
        await target(site.url)
    assert isolated_session().get_config_variable("ca_bundle") is None


def test_sessions_of_botocore_have_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ".aws"
    folder.mkdir()
    (folder / "config").write_text("[default]\nca_bundle = /x\nregion = eu-west-1\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in {
        "AWS_PROFILE": "somebody",
        "AWS_DATA_PATH": "/x",
        "AWS_CA_BUNDLE": "/x",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_MAX_ATTEMPTS": "9",
        "AWS_SDK_UA_APP_ID": "x",
    }.items():
        monkeypatch.setenv(name, value)
    session = isolated_session()
    for variable in ("profile", "data_path", "ca_bundle", "region", "max_attempts"):
        assert session.get_config_variable(variable) is None, variable
    assert not session.get_config_variable("user_agent_appid")
    # What chooses among AWS's own endpoints is left to the organisation.
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    assert isolated_session().get_config_variable("use_fips_endpoint") is True


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def sources() -> Iterator[Path]:
    for program in PROGRAMS:
        for path in sorted((ROOT / program).rglob("*.py")):
            if "node_modules" not in path.parts and "_pb2" not in path.name:
                yield path


def test_every_channel_is_opened_in_one_place() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources()
        for name, _ in calls(path)
        if name.split(".")[-1] in {"insecure_channel", "secure_channel", "intercept_channel"}
    }
    assert found == {
        "authsvc/net/channels.py: aio.insecure_channel",
        "authsvc/net/channels.py: aio.secure_channel",
    }


def test_every_exporter_is_given_the_options_of_our_channels() -> None:
    exporters = [
        ast.unparse(call)
        for path in sources()
        for name, call in calls(path)
        if name.endswith("Exporter") and "OTLP" in name
    ]
    assert exporters
    assert all("channel_options=DIRECT" in call for call in exporters)


def test_every_client_of_http_leaves_the_environment_alone() -> None:
    short = {f"httpx2.{name}" for name in ("get", "post", "request", "stream")}
    for path in sources():
        for name, call in calls(path):
            assert name not in short, f"{path}: {name}"
            if name in {"httpx2.AsyncClient", "httpx2.Client"}:
                assert "trust_env=False" in ast.unparse(call), path
            assert name.split(".")[-1] not in {"urlopen", "ProxyHandler"}, path
            if name.split(".")[-1] == "streamable_http_client":
                # Its own client would read the environment.
                assert "http_client=" in ast.unparse(call), path


def pages() -> Iterator[Path]:
    """What shows code to copy: the documentation, and what the demo prints."""
    folders = [ROOT / name for name in ("docs", "examples", "deploy", "bench", "conformance")]
    yield ROOT / "README.md"
    yield ROOT / "demo" / "__main__.py"
    for folder in folders:
        for path in sorted(folder.rglob("*.md")):
            if "node_modules" not in path.parts:
                yield path


CLIENTS = re.compile(r"\bhttpx2?\.(?:Async)?Client\([^()]*\)")
CURLS = re.compile(r"\bcurl (?=-)(?:[^\n`]|\\\n)*")


def test_no_client_on_a_page_sends_a_token_to_a_proxy_of_the_environment() -> None:
    clients, curls = list[str](), list[str]()
    for path in pages():
        text = path.read_text(encoding="utf-8")
        clients += CLIENTS.findall(text)
        curls += [it for it in CURLS.findall(text) if "Authorization: " in it]
    assert clients
    assert curls
    assert [it for it in clients if "trust_env=False" not in it] == []
    assert [it for it in curls if "--noproxy '*'" not in it] == []


@pytest.mark.parametrize(
    "program", [authsvc.cli.main, authsvc.console.cli.main, mcp_adapter.server.cli.main]
)
def test_libraries_log_no_secrets(
    program: authsvc.cli.LazyGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in DEBUG_SWITCHES:
        monkeypatch.setenv(name, "x")
    CliRunner().invoke(program, ["--version"])
    assert not set(DEBUG_SWITCHES) & set(os.environ)


async def test_a_program_traces_no_calls(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    """gRPC's traces have the metadata of calls, service tokens among it."""
    async with running(settings_for(tmp_path, idp, listen="127.0.0.1:0"), clock=clock) as address:
        answer = await asyncio.to_thread(
            subprocess.run,
            [
                sys.executable,
                "-m",
                "authsvc",
                "health",
                address,
                "--timeout-seconds",
                str(BOUND_SECONDS),
            ],
            env={**os.environ, "GRPC_TRACE": "all", "GRPC_VERBOSITY": "debug"},
            cwd=ROOT,
            capture_output=True,
            timeout=BOUND_SECONDS,
            check=False,
        )
    assert answer.returncode == 0
    assert b"grpc.health.v1" not in answer.stderr
