"""The seed's flow through the real processes: authsvc, two adapters and an S3 API."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from authsvc.net.development_certificates import write_development_certificates
from demo.s3 import serving_s3
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.processes import Process
from tests.support.stack import RESOURCE, ROLES, start_adapter, start_authsvc
from tests.support.tokens import IdentityProvider

BUCKETS = [f"bucket-{number:02}" for number in range(32)]
LEGACY = "2025-11-25"
TIMEOUT = TIMEOUT_SECONDS


@dataclass
class Stack:
    """What runs, and how to ask it."""

    folder: Path
    idp: IdentityProvider
    authsvc: Process
    authsvc_address: str
    adapters: tuple[str, str]

    def token(self, subject: str = "alice", **claims: object) -> str:
        return self.idp.token(subject, claims={"aud": RESOURCE, "buckets": BUCKETS, **claims})

    def post(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        session: str | None = None,
        token: str | None = None,
        adapter: int = 0,
    ) -> httpx2.Response:
        """One JSON-RPC request as a client of a handshake revision sends it."""
        return httpx2.post(
            f"{self.adapters[adapter]}/mcp",
            json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}},
            headers=headers(session, token),
            timeout=TIMEOUT,
        )

    def call(
        self,
        tool: str,
        arguments: dict[str, Any] | None = None,
        **how: Any,  # noqa: ANN401 - as post
    ) -> httpx2.Response:
        return self.post("tools/call", {"name": tool, "arguments": arguments or {}}, **how)

    def buckets(self, session: str, token: str, *, adapter: int = 0) -> list[str]:
        answer = self.call("discover_buckets", session=session, token=token, adapter=adapter)
        assert answer.status_code == 200, answer.text
        return [bucket["name"] for bucket in structured(answer)["buckets"]]

    def initialize(self, token: str | None = None) -> str:
        answer = self.post(
            "initialize",
            {
                "protocolVersion": LEGACY,
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            },
            token=token,
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["result"]["protocolVersion"] == LEGACY
        return answer.headers["mcp-session-id"]


def headers(session: str | None, token: str | None) -> dict[str, str]:
    return {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": LEGACY,
        **({"Mcp-Session-Id": session} if session else {}),
        **({"Authorization": f"Bearer {token}"} if token else {}),
    }


def structured(answer: httpx2.Response) -> dict[str, Any]:
    result = answer.json()["result"]
    assert not result.get("isError"), result
    content: dict[str, Any] = result["structuredContent"]
    return content


def reason(answer: httpx2.Response) -> str:
    return str(answer.json()["error"]["data"]["reason"])


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@contextmanager
def running_stack(folder: Path) -> Iterator[Stack]:
    idp = IdentityProvider(time.time)
    idp.write_secret(folder)
    write_role_keys(folder)
    objects = {name: {f"data/{n}.txt": b"x" * n for n in range(3)} for name in BUCKETS}
    with ExitStack() as running:
        s3 = running.enter_context(serving_s3(objects))
        process, address = start_authsvc(folder, running)
        (_, first), (_, second) = (
            start_adapter(folder, running, authsvc=address, s3=s3) for _ in range(2)
        )
        yield Stack(folder, idp, process, address, (first, second))


def write_role_keys(folder: Path) -> None:
    for role in ROLES:
        (folder / f"{role}.key").write_text(f"secret-of-{role}")


def test_the_flow_that_must_hold(tmp_path: Path) -> None:
    with running_stack(tmp_path) as stack:
        check_the_flow(stack)


def check_the_flow(stack: Stack) -> None:
    # 1. initialize without a token.
    session = stack.initialize()

    # 2. Token A: all 32 buckets, and the log says what happened.
    a = stack.token(roles=["reader"])
    assert stack.buckets(session, a) == BUCKETS
    shown = session[:8] + "…"
    stack.authsvc.wait_for(
        f"Session {shown}: New JWT token detected, re-authenticating", TIMEOUT_SECONDS
    )
    stack.authsvc.wait_for(f"Session {shown} updated with new JWT", TIMEOUT_SECONDS)

    # 3. The same again.
    assert stack.buckets(session, a) == BUCKETS
    stack.authsvc.wait_for(f"Using cached JWT auth for session {shown}", TIMEOUT_SECONDS)

    # 4. Token B, another role with other buckets; then A again, then B again.
    b = stack.token(roles=["analyst"], buckets=BUCKETS[:3], iat=time.time() + 1)
    assert stack.buckets(session, b) == BUCKETS[:3]
    assert stack.buckets(session, a) == BUCKETS
    assert stack.buckets(session, b) == BUCKETS[:3]

    # 5. Tokens that are no good are refused with a reason, and B still works.
    unsigned = ".".join(["eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0", b.split(".")[1], ""])
    for bad, expected in {
        b[:-2]: "TOKEN_MALFORMED",
        stack.idp.forged(): "TOKEN_SIGNATURE_INVALID",
        stack.token(exp=time.time() - 60): "TOKEN_EXPIRED",
        stack.token(aud="https://else.example/mcp"): "TOKEN_AUDIENCE_MISMATCH",
        unsigned: "TOKEN_ALGORITHM_REFUSED",
    }.items():
        refused = stack.call("discover_buckets", session=session, token=bad)
        assert refused.status_code == 401
        assert 'error="invalid_token"' in refused.headers["www-authenticate"]
        assert reason(refused) == expected
        assert stack.buckets(session, b) == BUCKETS[:3]

    # 6. No token is no identity; another subject does not get in; B still works.
    anonymous = stack.call("discover_buckets", session=session)
    assert anonymous.status_code == 401
    assert "error=" not in anonymous.headers["www-authenticate"]
    assert "bucket-" not in anonymous.text
    stranger = stack.call("discover_buckets", session=session, token=stack.token("mallory"))
    unknown = stack.call("discover_buckets", session="no-such-session", token=b)
    assert (stranger.status_code, unknown.status_code) == (404, 404)
    assert stranger.content == unknown.content
    assert stack.buckets(session, b) == BUCKETS[:3]

    # 7. The other replica serves the session, a killed authsvc still knows it, DELETE ends it.
    assert stack.buckets(session, b, adapter=1) == BUCKETS[:3]
    with ExitStack() as restarted:
        stack.authsvc.kill(signal.SIGKILL)
        stack.authsvc.wait(TIMEOUT)
        away = stack.call("discover_buckets", session=session, token=b)
        assert away.status_code == 503
        assert int(away.headers["retry-after"]) >= 1
        start_authsvc(stack.folder, restarted, listen=stack.authsvc_address)
        assert eventually_buckets(stack, session, b) == BUCKETS[:3]
        for token, status in ((None, 401), (stack.token("mallory"), 404), (b, 200)):
            answer = httpx2.delete(
                f"{stack.adapters[0]}/mcp", headers=headers(session, token), timeout=TIMEOUT
            )
            assert answer.status_code in (status, 204 if status == 200 else status)
        for adapter in (0, 1):
            ended = stack.call("discover_buckets", session=session, token=b, adapter=adapter)
            assert ended.status_code == 404


def eventually_buckets(stack: Stack, session: str, token: str) -> list[str]:
    """The answer once the adapter has found the restarted authsvc, which takes it a moment."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        answer = stack.call("discover_buckets", session=session, token=token)
        if answer.status_code != 503 or time.monotonic() > deadline:
            return [bucket["name"] for bucket in structured(answer)["buckets"]]


def test_fifty_tasks_alternate_two_tokens_on_one_session(stack: Stack) -> None:
    session = stack.initialize()
    tokens = {
        "A": stack.token(roles=["reader"], buckets=BUCKETS[:5]),
        "B": stack.token(roles=["analyst"], buckets=BUCKETS[20:], iat=time.time() + 1),
    }
    expected = {"A": BUCKETS[:5], "B": BUCKETS[20:]}
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "discover_buckets", "arguments": {}},
    }

    async def alternate(client: httpx2.AsyncClient, number: int) -> None:
        for turn in range(4):
            name = "AB"[(number + turn) % 2]
            answer = await client.post(
                f"{stack.adapters[number % 2]}/mcp",
                json=body,
                headers=headers(session, tokens[name]),
            )
            assert answer.status_code == 200, answer.text
            names = [bucket["name"] for bucket in structured(answer)["buckets"]]
            assert names == expected[name]

    async def all_of_them() -> None:
        async with httpx2.AsyncClient(timeout=TIMEOUT) as client, asyncio.timeout(TIMEOUT_SECONDS):
            await asyncio.gather(*(alternate(client, number) for number in range(50)))

    asyncio.run(all_of_them())


def test_objects_are_listed_with_the_credentials_of_the_request(stack: Stack) -> None:
    session = stack.initialize(stack.token())
    for spelling in ("bucket-07", "s3://bucket-07", "s3://bucket-07/data/"):
        answer = stack.call(
            "bucket_objects_list", {"bucket": spelling}, session=session, token=stack.token()
        )
        keys = [item["key"] for item in structured(answer)["objects"]]
        assert keys == [f"data/{n}.txt" for n in range(3)]
    refused = stack.call(
        "bucket_objects_list",
        {"bucket": "bucket-07"},
        session=session,
        token=stack.token(buckets=["bucket-08"]),
    )
    assert refused.json()["result"]["isError"]


def test_a_missing_scope_is_a_challenge_for_all_that_are_needed(stack: Stack) -> None:
    session = stack.initialize()
    answer = stack.call(
        "bucket_objects_list",
        {"bucket": "bucket-07"},
        session=session,
        token=stack.token(scope="buckets.read"),
    )
    assert answer.status_code == 403
    challenge = answer.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert 'scope="objects.read"' in challenge
    assert "/.well-known/oauth-protected-resource/mcp" in challenge


def test_the_2026_revision_needs_no_session(stack: Stack) -> None:
    def call(token: str | None, adapter: int = 0) -> httpx2.Response:
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        return httpx2.post(
            f"{stack.adapters[adapter]}/mcp",
            json={
                "jsonrpc": "2.0",
                "id": 1,
                "method": "tools/call",
                "params": {"name": "discover_buckets", "arguments": {}, "_meta": meta},
            },
            headers={
                **headers(None, token),
                "MCP-Protocol-Version": "2026-07-28",
                "Mcp-Method": "tools/call",
                "Mcp-Name": "discover_buckets",
            },
            timeout=TIMEOUT,
        )

    a = stack.token(buckets=BUCKETS[:2])
    b = stack.token(buckets=BUCKETS[2:5], iat=time.time() + 1)
    for token, expected in ((a, BUCKETS[:2]), (b, BUCKETS[2:5]), (a, BUCKETS[:2])):
        for adapter in (0, 1):
            answer = call(token, adapter)
            assert answer.status_code == 200, answer.text
            assert "mcp-session-id" not in answer.headers
            assert [item["name"] for item in structured(answer)["buckets"]] == expected
    assert call(None).status_code == 401
    assert call(stack.idp.forged()).status_code == 401


@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])
def test_the_official_client_refreshes_and_switches_role(stack: Stack, mode: str) -> None:
    tokens = iter(
        [
            stack.token(),
            stack.token(roles=["analyst"], buckets=BUCKETS[:4], iat=time.time() + 1),
        ]
    )

    async def flow() -> None:
        async with httpx2.AsyncClient(timeout=TIMEOUT) as http:
            transport = streamable_http_client(f"{stack.adapters[0]}/mcp", http_client=http)
            async with Client(transport, mode=mode) as client:
                names = [tool.name for tool in (await client.list_tools()).tools]
                assert names[:2] == ["discover_buckets", "bucket_objects_list"]
                for expected in (BUCKETS, BUCKETS[:4]):
                    http.headers["Authorization"] = f"Bearer {next(tokens)}"
                    answer = await client.call_tool("discover_buckets", {})
                    found = [bucket["name"] for bucket in answer.structured_content["buckets"]]
                    assert found == expected
                listed = await client.call_tool(
                    "bucket_objects_list", {"bucket": "s3://bucket-00", "max_keys": 2}
                )
                page = listed.structured_content
                assert [item["key"] for item in page["objects"]] == ["data/0.txt", "data/1.txt"]
                assert page["truncated"]

    async def bounded() -> None:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await flow()

    asyncio.run(bounded())


def test_over_mutual_tls_and_a_callers_own_resource(tmp_path: Path) -> None:
    idp = IdentityProvider(time.time)
    idp.write_secret(tmp_path)
    write_role_keys(tmp_path)
    for name in ("mine", "other"):
        write_development_certificates(tmp_path / name, client_name=f"spiffe://test/{name}")
    mine, other = tmp_path / "mine", tmp_path / "other"
    authority = tmp_path / "clients.pem"
    authority.write_bytes((mine / "ca.pem").read_bytes() + (other / "ca.pem").read_bytes())
    tables = f"""
[tls]
certificate_file = "{mine}/server.pem"
key_file = "{mine}/server.key"
client_ca_file = "{authority}"
[[callers]]
name = "mine"
resources = ["{RESOURCE}"]
certificate_names = ["spiffe://test/mine"]
[[callers]]
name = "other"
resources = ["https://other.example/mcp"]
certificate_names = ["spiffe://test/other"]
"""
    with ExitStack() as running:
        s3 = running.enter_context(serving_s3({BUCKETS[0]: {"key": b"x"}}))
        process, address = start_authsvc(tmp_path, running, callers="", tables=tables)
        adapters, urls = {}, {}
        for folder in (mine, other):
            tls = f"""
ca_file = "{mine}/ca.pem"
certificate_file = "{folder}/client.pem"
key_file = "{folder}/client.key"
"""
            adapters[folder.name], urls[folder.name] = start_adapter(
                folder, running, authsvc=address, s3=s3, tls=tls
            )
        stack = Stack(tmp_path, idp, process, address, (urls["mine"], urls["other"]))
        session = stack.initialize()
        assert stack.buckets(session, stack.token(buckets=BUCKETS[:1])) == BUCKETS[:1]
        assert httpx2.get(f"{urls['mine']}/readyz", timeout=TIMEOUT).status_code == 200
        # The other server is known, and may not act for this resource.
        refused = stack.call("discover_buckets", session=session, token=stack.token(), adapter=1)
        assert (refused.status_code, reason(refused)) == (403, "CALLER_NOT_ALLOWED")
        unready = httpx2.get(f"{urls['other']}/readyz", timeout=TIMEOUT)
        assert (unready.status_code, unready.json()["reason"]) == (
            503,
            "authsvc does not serve this server: CALLER_NOT_ALLOWED",
        )
        line = adapters["other"].wait_for("not ready: CALLER_NOT_ALLOWED. In", TIMEOUT_SECONDS)
        assert (line["target"], line["resource"]) == (address, RESOURCE)
        assert (line["reason"], line["service_token_file"]) == ("CALLER_NOT_ALLOWED", "")
        process.wait_for("a caller was denied", TIMEOUT_SECONDS)
