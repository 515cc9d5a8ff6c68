"""docs/other-languages.md and its example, as a reader runs them: TLS and a service token."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import grpc
import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as collector_grpc

from authsvc import __version__
from authsvc.client import AdminClient, ClientTls
from authsvc.net.development_certificates import write_development_certificates
from scripts import release
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.node import FOLDER, NODE, installed, run_node
from tests.support.processes import ROOT, Process, spawn
from tests.support.tokens import IdentityProvider
from tests.support.valkey import free_port

EXAMPLE = ROOT / "examples" / "typescript_server"
PAGE = (ROOT / "docs" / "other-languages.md").read_text(encoding="utf-8")
RESOURCE = "http://127.0.0.1:8011/mcp"
OF_THE_PAGE = "https://mcp.example.com/mcp"
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
ISSUER = "https://idp.example"


def blocks(language: str) -> list[str]:
    """The page's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)


@dataclass
class Running:
    """An authsvc that may be stopped and started again, and what its clients need."""

    folder: Path
    idp: IdentityProvider
    address: str
    authsvc: Process

    def token(self, subject: str = "alice", role: str = "reader", **claims: object) -> str:
        return self.idp.token(subject, claims={"aud": RESOURCE, "roles": [role], **claims})

    def tls(self, caller: str) -> ClientTls:
        return ClientTls(self.folder / "ca.pem", service_token_file=self.folder / caller)


class Collector(collector_grpc.TraceServiceServicer):
    """Accepts traces."""

    def Export(  # noqa: N802 - of the generated class
        self, request: collector.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> collector.ExportTraceServiceResponse:
        return collector.ExportTraceServiceResponse()


def config(folder: Path, address: str, collector: str) -> Path:
    """The caller of this test may resolve for both resources; the operator is another."""
    path = folder / "authsvc.toml"
    path.write_text(
        f"""
listen = "{address}"
log_level = "debug"
drain_seconds = 0
max_connection_age_seconds = 1
grace_seconds = 1
[tls]
certificate_file = "{folder}/server.pem"
key_file = "{folder}/server.key"
[tracing]
endpoint = "{collector}"
[store]
path = "{folder}/authsvc.db"
[[callers]]
name = "typescript"
resources = ["{RESOURCE}", "{OF_THE_PAGE}"]
service_token_files = ["{folder}/service-token"]
[[callers]]
name = "operator"
admin = true
service_token_files = ["{folder}/operator"]
[[issuers]]
issuer = "{ISSUER}"
algorithms = ["HS256"]
secret_file = "{folder}/secret"
"""
    )
    return path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """authsvc, and beside it what a reader has unpacked, copied and installed."""
    installed("@grpc/grpc-js")
    folder = tmp_path_factory.mktemp("other")
    shutil.unpack_archive(release.archive_protos(ROOT, folder), folder, filter="data")
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
    (folder / "node_modules").symlink_to(FOLDER / "node_modules")
    write_development_certificates(folder, client_name="spiffe://dev/none")
    for caller in ("service-token", "operator"):
        (folder / caller).write_text(token_hex(32))
    idp = IdentityProvider(time.time, ISSUER)
    idp.write_secret(folder)
    port = free_port()
    with collecting() as endpoint:
        path = config(folder, f"127.0.0.1:{port}", endpoint)
        with spawn("authsvc", "serve", "--config", str(path)) as authsvc:
            authsvc.wait_for("listening on", TIMEOUT_SECONDS)
            # By name: TLS has no names that are addresses.
            yield Running(folder, idp, f"localhost:{port}", authsvc)


@contextmanager
def collecting() -> Iterator[str]:
    """A collector of traces, which keeps none of them: its URL."""
    server = grpc.server(ThreadPoolExecutor(1))
    collector_grpc.add_TraceServiceServicer_to_server(Collector(), server)  # type: ignore[no-untyped-call] # generated
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def run(command: list[str], folder: Path, **environment: str) -> str:
    """What a command prints, which has to succeed without a word on standard error."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def environment(running: Running) -> dict[str, str]:
    """What the example is configured with."""
    return {
        "AUTHSVC": running.address,
        "AUTHSVC_PROTOS": f"authsvc-protos-{__version__}",
        "AUTHSVC_CA": "ca.pem",
        "AUTHSVC_SERVICE_TOKEN": "service-token",
    }


# The page.


def of(running: Running, text: str) -> str:
    """A block with this test's addresses and files in place of the page's."""
    text = text.replace("authsvc.internal:50051", running.address)
    return text.replace("/etc/authsvc/", f"{running.folder}/")


def test_the_example_pins_what_the_tests_run() -> None:
    ours, its = (
        json.loads((folder / "package.json").read_text(encoding="utf-8"))
        for folder in (FOLDER, EXAMPLE)
    )
    pinned = its["dependencies"] | its["devDependencies"]
    assert pinned.items() <= ours["dependencies"].items()


def test_the_types_of_the_example_are_right(running: Running) -> None:
    """As ``npm run check``; and the page's, in its place."""
    names = "declare const token: string;\ndeclare const headers: Record<string, string>;\n"
    usage, _ = parts()
    (running.folder / "types.ts").write_text(names + "\n".join(usage))
    try:
        run([NODE, str(installed("typescript") / "bin" / "tsc")], running.folder)
    finally:
        (running.folder / "types.ts").unlink()


def parts() -> tuple[list[str], list[str]]:
    """What the page has to run, and what it quotes of the client."""
    client = (EXAMPLE / "authsvc.ts").read_text(encoding="utf-8")
    dedented = "\n".join(line.removeprefix("  ") for line in client.splitlines())
    quoted = [text for text in blocks("ts") if text in client or text in dedented]
    return [text for text in blocks("ts") if text not in quoted], quoted


def test_the_typescript_of_the_page(running: Running) -> None:
    usage, quoted = parts()
    assert (len(usage), len(quoted)) == (4, 3)
    token = running.token(aud=OF_THE_PAGE)
    given = f"const token = '{token}';\nconst headers = {{ traceparent: '{TRACEPARENT}' }};\n"
    told = "console.log(who, claims.sub, both.map((it) => it.principal.subject).join());\n"
    (running.folder / "page.ts").write_text(
        given + of(running, "\n".join(usage)) + told + "authsvc.close();\n"
    )

    printed = run([NODE, "page.ts"], running.folder)

    assert printed.splitlines() == ["TOKEN_MALFORMED undefined", "alice: reader alice alice,alice"]


@pytest.fixture(scope="module")
def programs(running: Running) -> dict[str, str]:
    """An environment in which the page's shell finds its programs, and their files."""
    buf = ROOT / "protos/node_modules/@bufbuild/buf/bin/buf"
    if not buf.is_file():
        pytest.skip("buf is not installed; run: sh scripts/clients.sh .venv")
    folder = running.folder / "bin"
    folder.mkdir()
    protoc = "import sys; from grpc_tools import protoc; sys.exit(protoc.main(sys.argv))"
    for name, command in (
        ("buf", f"'{NODE}' '{buf}'"),
        ("protoc", f"'{sys.executable}' -c '{protoc}'"),
    ):
        (folder / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (folder / name).chmod(0o755)
    (running.folder / "token").write_text(running.token(aud=OF_THE_PAGE))
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_the_shell_of_the_page(running: Running, programs: dict[str, str]) -> None:
    unpack, resolve, reflect, grpcurl = blocks("sh")

    def shell(block: str) -> str:
        return run(
            ["bash", "-euo", "pipefail", "-c", of(running, block)], running.folder, **programs
        )

    shell(unpack)
    assert (running.folder / "authsvc.binpb").stat().st_size > 0
    resolved = [shell(resolve)]
    assert "authsvc.v1.AuthService/ResolveSession" in shell(reflect).split()
    if shutil.which("grpcurl"):
        resolved.append(shell(grpcurl))
    for printed in resolved:
        assert json.loads(printed)["principal"]["subject"] == "alice"


def test_the_first_call_of_an_unregistered_caller_is_denied(running: Running) -> None:
    """The page's client with a service token that authsvc does not know."""
    (running.folder / "unknown").write_text(token_hex(32))
    first = of(running, blocks("ts")[0]).replace("/service-token", "/unknown")
    for client in ("Authsvc", "StreamingAuthsvc"):
        (running.folder / "denied.ts").write_text(
            first.replace("new Authsvc(", f"new {client}(")
            + f"await authsvc.resolve({{ resource: '{OF_THE_PAGE}', token: 'x' }})"
            + ".catch((error) => console.log(error.code, error.reason));\nauthsvc.close();\n"
        )
        assert run([NODE, "denied.ts"], running.folder).split() == ["7", "CALLER_NOT_ALLOWED"]


WRITES = f"""
import {{ Authsvc, StreamingAuthsvc }} from './authsvc.ts';

const resource = '{RESOURCE}';
const [target, token] = process.argv.slice(2);
const printed = [];
for (const Client of [Authsvc, StreamingAuthsvc]) {{
  const authsvc = new Client({{
    target, protos: process.env.AUTHSVC_PROTOS, caFile: 'ca.pem', serviceTokenFile: 'service-token',
  }});
  const sessionId = (await authsvc.createSession(resource, token)).session.id;
  // At once: it is kept for 2 s, and the calls below may take longer.
  const created = authsvc.written.addTo({{ resource, sessionId }}).consistencyToken;
  await authsvc.resolve({{ resource, sessionId, token }}, {{ traceparent: '{TRACEPARENT}' }});
  // More than a batch may hold, and more than a connection has streams.
  const asked = Array.from({{ length: 600 }}, () => authsvc.resolve(
    {{ resource, sessionId, token }}, {{ timeoutMs: 60_000 }}));
  const subjects = new Set((await Promise.all(asked)).map((it) => it.principal.subject));
  await authsvc.revokeSession(resource, sessionId);
  const ended = authsvc.written.addTo({{ resource, sessionId }}).consistencyToken;
  authsvc.written.keep({{ resource, sessionId }}, 'of a resolve that was in flight');
  const kept = authsvc.written.addTo({{ resource, sessionId }}).consistencyToken;
  const error = await authsvc.resolve({{ resource, sessionId, token }}).catch((it) => it);
  const marks = [Boolean(created), created !== ended, kept === ended];
  printed.push([sessionId, ...subjects, ...marks, error.reason]);
  authsvc.close();
}}
console.log(JSON.stringify(printed));
"""


def test_many_at_once_and_what_they_have_written(
    running: Running, environment: dict[str, str]
) -> None:
    (running.folder / "writes.ts").write_text(WRITES)

    printed = run(
        [NODE, "writes.ts", running.address, running.token()], running.folder, **environment
    )

    for session, *found in json.loads(printed):
        assert found == ["alice", True, True, True, "SESSION_REVOKED"]
        event = f"Using cached JWT auth for session {session[:8]}…"
        assert running.authsvc.wait_for(event, TIMEOUT_SECONDS)["trace_id"] == TRACE


ENDING = f"""
import {{ setTimeout }} from 'node:timers/promises';
import {{ Authsvc, StreamingAuthsvc }} from './authsvc.ts';

const [target, token] = process.argv.slice(2);
for (const Client of [Authsvc, StreamingAuthsvc]) {{
  const authsvc = new Client({{
    target, protos: process.env.AUTHSVC_PROTOS, caFile: 'ca.pem', serviceTokenFile: 'service-token',
  }});
  await authsvc.resolve({{ resource: '{RESOURCE}', token }}, {{ timeoutMs: 60_000 }});
  const channel = authsvc.stub.getChannel();
  const ended = Promise.withResolvers();
  let ends = 0;
  const watch = (state) => channel.watchConnectivityState(state, Infinity, () => {{
    const next = channel.getConnectivityState(false);
    if (state === 2 && ++ends === 2) ended.resolve();
    else watch(next);
  }});
  watch(channel.getConnectivityState(false));
  let isOver = false;
  ended.promise.then(() => {{ isOver = true; }});
  const ask = async () => {{
    while (!isOver) {{
      await authsvc.resolve({{ resource: '{RESOURCE}', token }}, {{ timeoutMs: 60_000 }});
      await setTimeout(1);
    }}
  }};
  await Promise.all(Array.from({{ length: 4 }}, ask));
  authsvc.close();
}}
"""


def test_no_request_is_lost_with_its_connection(
    running: Running, environment: dict[str, str]
) -> None:
    """authsvc ends each connection at its age."""
    (running.folder / "ending.ts").write_text(ENDING)

    run([NODE, "ending.ts", running.address, running.token()], running.folder, **environment)


LATE = f"""
import {{ Authsvc, StreamingAuthsvc }} from './authsvc.ts';

const [target, pid] = process.argv.slice(2);
const request = {{ resource: '{RESOURCE}' }};
for (const Client of [Authsvc, StreamingAuthsvc]) {{
  const authsvc = new Client({{
    target, protos: process.env.AUTHSVC_PROTOS, caFile: 'ca.pem', serviceTokenFile: 'service-token',
  }});
  await authsvc.resolve(request, {{ timeoutMs: 60_000 }});
  process.kill(Number(pid), 'SIGSTOP');
  try {{
    await authsvc.resolve(request, {{ timeoutMs: 100 }});
  }} catch (error) {{
    console.log(error.code, error.reason);
  }} finally {{
    process.kill(Number(pid), 'SIGCONT');
  }}
  authsvc.close();
}}
"""


def test_a_deadline_is_kept(running: Running, environment: dict[str, str]) -> None:
    """authsvc stands still: an answer would come, and so would the end of the connection."""
    (running.folder / "late.ts").write_text(LATE)
    command = [NODE, "late.ts", running.address, str(running.authsvc.pid)]

    printed = run(command, running.folder, **environment)

    assert printed.splitlines() == ["4 SERVICE_UNAVAILABLE"] * 2


def test_the_measurement_of_the_page(running: Running, environment: dict[str, str]) -> None:
    few = {"RESOLVES": "200", "ROUNDS": "1"}

    printed = run(
        [NODE, "measure.ts", running.token()], running.folder, **environment, **few
    ).splitlines()

    assert [line.partition(":")[0] for line in printed] == ["unary", "stream"]
    assert all(": 200 resolves in " in line for line in printed)


# The example.


@dataclass
class Server:
    """The example, and one session of a client after another."""

    url: str

    def post(self, message: dict[str, Any], token: str = "", session: str = "") -> httpx2.Response:
        return self.send("POST", token, session, json={"jsonrpc": "2.0", **message})

    def send(self, method: str, token: str, session: str, **more: Any) -> httpx2.Response:  # noqa: ANN401
        headers = {"Accept": "application/json, text/event-stream", "traceparent": TRACEPARENT}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if session:
            headers["Mcp-Session-Id"] = session
        return httpx2.request(
            method, f"{self.url}/mcp", headers=headers, timeout=TIMEOUT_SECONDS, **more
        )

    def initialize(self, token: str = "") -> str:
        """The id of a new session."""
        params = {"protocolVersion": "2025-11-25", "capabilities": {}}
        params |= {"clientInfo": {"name": "tests", "version": "1"}}
        response = self.post({"id": 1, "method": "initialize", "params": params}, token)
        assert response.status_code == 200, response.text
        return response.headers["mcp-session-id"]

    def whoami(self, token: str = "", session: str = "") -> httpx2.Response:
        params = {"name": "whoami", "arguments": {}}
        return self.post({"id": 2, "method": "tools/call", "params": params}, token, session)

    def who(self, token: str, session: str) -> str:
        """What the tool says, to a caller that is served."""
        response = self.whoami(token, session)
        assert response.status_code == 200, response.text
        data = re.findall(r"^data: (.+)$", response.text, re.MULTILINE)[-1]
        text = json.loads(data)["result"]["content"][0]["text"]
        assert isinstance(text, str)
        return text


@pytest.fixture(scope="module")
def server(running: Running, environment: dict[str, str]) -> Iterator[Server]:
    """``node server.ts``, on a free port."""
    process = subprocess.Popen(
        [NODE, "server.ts"],
        cwd=running.folder,
        env={**os.environ, **environment, "PORT": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    too_late = threading.Timer(TIMEOUT_SECONDS, process.kill)
    too_late.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        too_late.cancel()
        found = re.match(r"Running on (http://\S+)", line)
        assert found, line + process.stdout.read()
        yield Server(found[1])
        process.terminate()
        assert process.wait(TIMEOUT_SECONDS) == 0
    finally:
        too_late.cancel()
        process.kill()
        process.communicate()


def test_without_a_token(server: Server) -> None:
    session = server.initialize()

    for refused in (server.whoami(), server.whoami(session=session)):
        assert refused.status_code == 401
        challenge = refused.headers["www-authenticate"]
        found = re.fullmatch(r'Bearer resource_metadata="http://127\.0\.0\.1:8011(/.+)"', challenge)
        assert found, challenge
        document = httpx2.get(server.url + found[1], timeout=TIMEOUT_SECONDS).json()
        assert document["resource"] == RESOURCE
        assert document["authorization_servers"] == [ISSUER]


def test_a_session_that_began_without_a_token_and_changes_its_role(
    server: Server, running: Running
) -> None:
    session = server.initialize()

    assert server.who(running.token(role="reader"), session) == "alice: reader"
    later = running.token(role="analyst", iat=time.time() + 1)
    assert server.who(later, session) == "alice: analyst"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("sdk", "mode", "has_session"),
    [("v1", "legacy", True), ("v2", "auto", False)],
)
async def test_a_client_of_the_official_sdk(
    server: Server, running: Running, sdk: str, mode: str, has_session: bool
) -> None:
    reader = running.token("dora", "reader")
    analyst = running.token("dora", "analyst", iat=time.time() + 1)

    answer = await run_node("whoami.mjs", sdk, mode, f"{server.url}/mcp", reader, analyst)

    refused, *said = answer["said"]
    assert "This request needs an access token." in refused
    assert said == ["dora: reader", "dora: analyst"]
    assert bool(answer["session"]) == has_session
    if has_session:
        assert server.whoami(analyst, answer["session"]).status_code == 404


def test_the_trace_of_a_request_goes_on_at_authsvc(server: Server, running: Running) -> None:
    session = server.initialize(running.token())
    server.who(running.token(role="analyst", iat=time.time() + 1), session)

    event = f"Session {session[:8]}… updated with new JWT"
    assert running.authsvc.wait_for(event, TIMEOUT_SECONDS)["trace_id"] == TRACE


def test_another_subject_sees_no_session(server: Server, running: Running) -> None:
    alice, bob = running.token(), running.token("bob")
    session = server.initialize(alice)
    assert server.who(alice, session) == "alice: reader"

    foreign, unknown = server.whoami(bob, session), server.whoami(bob, "no-such-session")

    assert foreign.status_code == unknown.status_code == 404
    assert foreign.text == unknown.text
    assert server.send("DELETE", bob, session).status_code == 404
    assert server.who(alice, session) == "alice: reader"


def test_a_session_that_its_owner_has_ended(server: Server, running: Running) -> None:
    alice = running.token()
    session = server.initialize(alice)

    assert server.send("DELETE", alice, session).status_code == 204
    assert server.whoami(alice, session).status_code == 404
    assert server.send("DELETE", alice, "").status_code == 400


def test_tokens_that_are_rejected(server: Server, running: Running) -> None:
    token = running.token(jti="to-be-revoked")
    session = server.initialize(token)
    assert server.who(token, session) == "alice: reader"

    async def revoke() -> None:
        async with AdminClient(running.address, tls=running.tls("operator")) as admin:
            await admin.revoke_token(ISSUER, "to-be-revoked")

    asyncio.run(revoke())

    for rejected in (token, running.idp.forged(), running.token(aud=OF_THE_PAGE)):
        refused = server.whoami(rejected, session)
        assert refused.status_code == 401
        assert (
            'Bearer error="invalid_token", resource_metadata='
            in (refused.headers["www-authenticate"])
        )
        assert rejected not in refused.text
    assert server.who(running.token(), session) == "alice: reader"


def test_a_request_without_a_session(server: Server, running: Running) -> None:
    """2026-07-28: the token alone says who is asking."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": "whoami", "arguments": {}, "_meta": meta}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": "whoami",
        "Authorization": f"Bearer {running.token('carol')}",
    }
    with httpx2.Client(timeout=TIMEOUT_SECONDS) as http:
        served = http.post(f"{server.url}/mcp", json=message, headers=headers)

    assert served.json()["result"]["content"][0]["text"] == "carol: reader"


def test_a_foreign_page_is_refused(server: Server, running: Running) -> None:
    for name, value in (("Origin", "https://evil.example"), ("Host", "evil.example")):
        headers = {name: value, "Authorization": f"Bearer {running.token()}"}
        refused = httpx2.post(f"{server.url}/mcp", headers=headers, timeout=TIMEOUT_SECONDS)
        assert refused.status_code == 403


def test_authsvc_that_does_not_answer_in_time(server: Server, running: Running) -> None:
    token = running.token()
    session = server.initialize(token)
    running.authsvc.kill(signal.SIGSTOP)
    try:
        refused = server.whoami(token, session)
    finally:
        running.authsvc.kill(signal.SIGCONT)

    assert refused.status_code == 503
    assert server.who(token, session) == "alice: reader"


def test_authsvc_is_away_and_comes_back(server: Server, running: Running) -> None:
    """The last one: it restarts what the tests share."""
    token = running.token()
    session = server.initialize(token)
    running.authsvc.end()

    away = [server.whoami(token, session), server.whoami(running.token("bob"), "no-such-session")]

    for refused in away:
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert "www-authenticate" not in refused.headers
    with spawn("authsvc", "serve", "--config", str(running.folder / "authsvc.toml")) as again:
        again.wait_for("listening on", TIMEOUT_SECONDS)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while (back := server.whoami(token, session)).status_code == 503:
            assert time.monotonic() < deadline, "the client does not connect again"
        assert back.status_code == 200
        assert server.who(token, session) == "alice: reader"
