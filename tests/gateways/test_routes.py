"""What a route of ``[ext_authz]`` sets, and what is answered in the upstream's place."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from tests.gateways.configured import WRITING
from tests.gateways.deployed import Configuration, ext_authz_of, manager_of
from tests.gateways.harness import KINDS, Gateway, refusal, said, serving
from tests.mcp_adapter.harness import (
    MODERN,
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    opened,
    request,
)
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.tokens import ISSUER

pytestmark = pytest.mark.anyio

METADATA = "/.well-known/oauth-protected-resource"


def bodies_unread(configuration: Configuration) -> None:
    """Envoy sends Check no body."""
    del ext_authz_of(configuration)["with_request_body"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("minted")
    with serving("sdk-stateless", folder, adopt_sessions=False) as running:
        yield running


def challenge_of(gateway: Gateway, *, scope: str = "", error: str = "") -> set[str]:
    """The parameters of a challenge."""
    return {
        f'resource_metadata="{gateway.origin}{METADATA}/mcp"',
        *([f'scope="{scope}"'] if scope else []),
        *([f'error="{error}"'] if error else []),
    }


def parameters(challenge: str) -> set[str]:
    assert challenge.startswith("Bearer ")
    found = challenge.removeprefix("Bearer ").split(", ")
    return {it for it in found if not it.startswith("error_description=")}


async def test_a_tool_needs_its_scope(client: Endpoint, gateway: Gateway) -> None:
    session = await opened(client)
    gateway.seen.clear()

    nobody = await client.post(call("write"), session=session)
    assert nobody.status_code == 401
    expected = challenge_of(gateway, scope=WRITING)
    assert parameters(nobody.headers["www-authenticate"]) == expected

    lacks = await client.post(call("write"), session=session, token=gateway.token())
    assert refusal(lacks) == (403, "INSUFFICIENT_SCOPE")
    expected = challenge_of(gateway, scope=WRITING, error="insufficient_scope")
    assert parameters(lacks.headers["www-authenticate"]) == expected
    for refused in (nobody, lacks):
        assert refused.headers["content-type"] == "application/json"
        assert refused.headers["cache-control"] == "no-store"
        body = refused.json()
        assert (body["jsonrpc"], body["id"]) == ("2.0", 7)
    assert not gateway.seen

    token = gateway.token(scope=WRITING)
    assert said(await client.post(call("write"), session=session, token=token)) == "written"


async def test_the_metadata_is_for_everyone(client: Endpoint, gateway: Gateway) -> None:
    for path in (METADATA, f"{METADATA}/mcp"):
        answer = await client.http.get(path, headers={"Origin": "https://app.example"})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "*"
        document = answer.json()
        assert document["resource"] == gateway.resource
        assert document["authorization_servers"] == [ISSUER]
    assert not gateway.seen


async def test_methods(client: Endpoint, gateway: Gateway) -> None:
    options = await client.http.request("OPTIONS", "/mcp")
    assert (options.status_code, options.headers["allow"]) == (204, "POST, DELETE, OPTIONS")
    for method in ("GET", "PUT", "PATCH", "TRACE"):
        answer = await client.http.request(method, "/mcp", headers={"Accept": "text/event-stream"})
        assert answer.status_code in {405, 501}, method
    assert not gateway.seen


async def test_a_minted_session_ends_at_authsvc(client: Endpoint, gateway: Gateway) -> None:
    token = gateway.token()
    session = await client.open(token)
    gateway.seen.clear()
    headers = {"Mcp-Session-Id": session, "Authorization": f"Bearer {token}"}

    assert (await client.http.delete("/mcp", headers=headers)).status_code == 204
    assert not gateway.seen
    again = await client.post(call("whoami"), session=session, token=token)
    assert refusal(again) == (404, "SESSION_NOT_FOUND")


async def test_a_host_and_a_path_that_are_not_served(client: Endpoint, gateway: Gateway) -> None:
    for path, host in (("/other", None), ("/mcp", "other.example")):
        headers = {"Host": host} if host else {}
        answer = await client.http.post(path, json=request("ping"), headers=headers)
        assert answer.status_code == 404
    assert not gateway.seen


def by_host_and_path(configuration: Configuration) -> None:
    """Envoy does not name the resource: authsvc finds it."""
    (host,) = manager_of(configuration)["route_config"]["virtual_hosts"]
    del host["typed_per_filter_config"]
    host["domains"] = ["*"]
    host["routes"] = [{**host["routes"][0], "match": {"prefix": "/"}}]


async def test_authsvc_finds_the_resource(tmp_path: Path) -> None:
    with serving("sdk-stateful", tmp_path, change=by_host_and_path) as gateway:
        token = gateway.token()
        async with gateway.client() as client:
            session = await opened(client)
            answer = await client.post(call("whoami"), session=session, token=token)
            assert said(answer)["sub"] == "alice"
            gateway.seen.clear()
            for path, host in (("/other", None), ("/mcp", "other.example"), ("/mcpx", None)):
                headers = {"Host": host} if host else {}
                refused = await client.post(
                    call("whoami"), session=session, token=token, path=path, headers=headers
                )
                assert refusal(refused) == (403, "CALLER_NOT_ALLOWED"), (path, host)
            assert not gateway.seen


def of_another_resource(configuration: Configuration) -> None:
    """Envoy names a resource that it is not registered for."""
    (host,) = manager_of(configuration)["route_config"]["virtual_hosts"]
    (per_route,) = host["typed_per_filter_config"].values()
    per_route["check_settings"]["context_extensions"]["resource"] = "https://other.example/mcp"


async def test_a_resource_that_is_not_registered(tmp_path: Path) -> None:
    with serving("sdk-stateful", tmp_path, change=of_another_resource) as gateway:
        async with gateway.client() as client:
            for token in (None, gateway.token(), gateway.token(aud="https://other.example/mcp")):
                answer = await client.post(request("ping"), token=token)
                assert refusal(answer) == (403, "CALLER_NOT_ALLOWED")
        assert not gateway.seen


async def test_no_body_at_all(tmp_path: Path) -> None:
    """Envoy sends Check no body: a POST may be any, and needs everything."""
    with serving("sdk-stateless", tmp_path, change=bodies_unread) as gateway:
        async with gateway.client() as client:
            params = {"name": "whoami", "arguments": {}}
            nobody = await client.modern("tools/list")
            lacks = await client.modern("tools/call", params, token=gateway.token())
            assert nobody.status_code == 401
            assert refusal(lacks) == (403, "INSUFFICIENT_SCOPE")
            assert not gateway.seen
            token = gateway.token(scope=WRITING)
            assert said(await client.modern("tools/call", params, token=token))["sub"] == "alice"


async def test_routing_headers_name_the_call(tmp_path: Path) -> None:
    """Of 2026-07-28."""
    with serving("sdk-stateless", tmp_path, change=bodies_unread, routing_headers=True) as gateway:
        token = gateway.token()
        params = {"name": "whoami", "arguments": {}}
        async with gateway.client() as client:
            assert (await client.modern("tools/list")).status_code == 200
            assert said(await client.modern("tools/call", params, token=token))["sub"] == "alice"
            lacks = await client.modern("tools/call", {**params, "name": "write"}, token=token)
            assert refusal(lacks) == (403, "INSUFFICIENT_SCOPE")
            # The older revisions have no such headers.
            session = await client.post(request("tools/list"), session="x")
            assert session.status_code == 401


@pytest.mark.parametrize("kind", KINDS)
async def test_an_upstream_compares_them_with_the_body(tmp_path: Path, kind: str) -> None:
    """What ``routing_headers`` relies on: none of these executes what was not authorised."""
    with serving(
        *(kind, tmp_path),
        change=bodies_unread,
        routing_headers=True,
        adopt_sessions=kind.endswith("-stateful"),
    ) as gateway:
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        older, modern = call("write"), call("write", _meta=meta)
        who = {"Mcp-Method": "tools/call", "Mcp-Name": "whoami"}
        async with gateway.client() as client:
            for body in (older, modern, [older], [modern]):
                for method in ("tools/list", "ping", "notifications/cancelled"):
                    headers = {"Mcp-Method": method}
                    answer = await client.post(body, version=MODERN, headers=headers)
                    assert answer.status_code == 400, (body, method)
                answer = await client.post(body, token=gateway.token(), version=MODERN, headers=who)
                assert answer.status_code == 400, body


EXTERNAL_ADDRESS = "x-envoy-external-address"


@pytest.mark.parametrize("header", ["", EXTERNAL_ADDRESS])
async def test_a_flood_of_bad_tokens_is_slowed_for_its_client_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    def behind_a_load_balancer(envoy: Configuration) -> None:
        manager_of(envoy)["xff_num_trusted_hops"] = 1

    @asynccontextmanager
    async def client_at(gateway: Gateway, address: str) -> AsyncIterator[Endpoint]:
        # What a client claims is replaced, or to the left of what the load balancer adds.
        claimed = {"X-Forwarded-For": f"127.0.0.9, {address}", EXTERNAL_ADDRESS: "127.0.0.9"}
        async with httpx2.AsyncClient(
            base_url=gateway.origin,
            timeout=TIMEOUT_SECONDS,
            headers=claimed,
            transport=httpx2.AsyncHTTPTransport(local_address=None if header else address),
        ) as http:
            yield Endpoint(http, MemoryResolver(), Meeting())

    async def statuses(client: Endpoint, *tokens: str) -> list[int]:
        return [(await client.modern("tools/list", token=token)).status_code for token in tokens]

    tables = """
[limits]
rejected_tokens_per_second = 0.001
rejected_tokens_burst = 4
rejected_tokens_per_second_per_client = 0.001
rejected_tokens_burst_per_client = 2
"""
    monkeypatch.setenv("AUTHSVC_EXT_AUTHZ__CLIENT_ADDRESS_HEADER", header)
    with serving(
        "sdk-stateless", tmp_path, tables=tables, change=behind_a_load_balancer
    ) as gateway:
        async with (
            client_at(gateway, "127.0.0.2") as flooding,
            client_at(gateway, "127.0.0.3") as other,
        ):
            forged = [gateway.idp.forged(f"mallory-{number}") for number in range(6)]
            assert await statuses(flooding, *forged) == [401, 401, *[429] * 4]
            assert not gateway.seen
            valid = [gateway.token(f"alice-{number}") for number in range(6)]
            assert await statuses(other, *valid) == [200] * 6
            assert await statuses(flooding, valid[0]) == [200]
            answer = await flooding.modern("tools/list", token=gateway.token("bob"))
            assert refusal(answer) == (429, "OVERLOADED")
            assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("asks", [True, False])
async def test_credentials_where_the_route_asks_for_them(tmp_path: Path, asks: bool) -> None:
    key = tmp_path / "reader.key"
    key.write_text("secret-of-reader")
    static = f"""
[[credentials.static]]
role = "reader"
access_key_id = "AKIAREADER"
secret_access_key_file = "{key}"
"""
    with serving("sdk-stateful", tmp_path, tables=static, credentials=asks) as gateway:
        async with gateway.client() as client:
            session = await opened(client)
            assert not any(seen.values("x-authsvc-credentials") for seen in gateway.seen)
            answer = await client.post(call("whoami"), session=session, token=gateway.token())
            assert said(answer)["sub"] == "alice"
            values = gateway.seen[-1].values("x-authsvc-credentials")
    assert len(values) == asks
    if not asks:
        return
    (value,) = values
    padding = "=" * (-len(value) % 4)
    credentials = json.loads(base64.urlsafe_b64decode(value + padding))
    assert "AKIAREADER" in json.dumps(credentials)
    text = gateway.log.read_text(encoding="utf-8")
    assert value not in text
    assert "secret-of-reader" not in text
