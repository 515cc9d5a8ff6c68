"""The tools as the official client sees them, in both eras, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError

from authsvc.domain.resolution import AwsCredentials, Secret
from mcp_adapter.tools.loading import OWN
from tests.mcp_adapter.harness import DEADLINE_SECONDS, Endpoint, Meeting
from tests.mcp_adapter.tools.served import ERAS, Served, served, somebody
from tests.mcp_adapter.tools.slow_storage import SlowStorage
from tests.support.bounds import TIMEOUT_SECONDS

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server(upstream: str) -> AsyncIterator[Served]:
    """All tools of the adapter."""
    async with served(OWN, upstream) as running:
        yield running


@pytest.fixture
async def slow_server(slow_storage: SlowStorage) -> AsyncIterator[Served]:
    """All tools, on a storage that hangs."""
    async with served(OWN, slow_storage.url) as running:
        yield running


@pytest.mark.parametrize("era", ERAS)
async def test_every_tool_answers_by_its_own_schema(server: Served, era: str) -> None:
    """The client checks each answer against the schema that the tool was listed with."""
    place: dict[str, object] = {"bucket": "s3://alpha", "key": f"written by {era}/ünïcödé ✓"}
    calls: list[tuple[str, dict[str, object]]] = [
        ("whoami", {}),
        ("discover_buckets", {"check_access": True}),
        ("bucket_object_put", {**place, "text": "größer"}),
        ("bucket_objects_list", {"bucket": "alpha", "prefix": "written"}),
        ("bucket_objects_search", {"bucket": "alpha", "pattern": "written*"}),
        ("bucket_object_info", place),
        ("bucket_object_text", place),
        ("bucket_object_link", place),
        ("bucket_object_delete", place),
    ]
    with anyio.fail_after(DEADLINE_SECONDS):
        async with server.client(era) as client:
            answers = {name: await client.call_tool(name, given) for name, given in calls}

    assert {name for name, _ in calls} == {tool.name for tool in OWN}
    for name, answer in answers.items():
        assert not answer.is_error, (name, answer)
        assert answer.structured_content
    text = answers["bucket_object_text"].structured_content
    assert text is not None
    assert (text["text"], text["encoding"]) == ("größer", "utf-8")


@pytest.mark.parametrize("era", ERAS)
async def test_a_link_comes_as_a_resource_link(server: Served, era: str) -> None:
    with anyio.fail_after(DEADLINE_SECONDS):
        async with server.client(era) as client:
            place = {"bucket": "alpha", "key": "a+b.txt"}
            answer = await client.call_tool("bucket_object_link", place)

    _, link = answer.content
    assert isinstance(link, types.ResourceLink)
    assert answer.structured_content is not None
    assert (link.name, str(link.uri)) == ("a+b.txt", answer.structured_content["url"])
    assert httpx2.get(str(link.uri), timeout=TIMEOUT_SECONDS).text == "x"


@pytest.mark.parametrize("era", ERAS)
async def test_a_missing_scope_is_a_challenge_that_names_it(server: Served, era: str) -> None:
    server.resolver.tokens["reader"] = somebody(scopes=("objects.read",))
    with anyio.fail_after(DEADLINE_SECONDS):
        async with server.client(era, "reader") as client:
            place = {"bucket": "alpha", "key": "a+b.txt"}
            assert not (await client.call_tool("bucket_object_info", place)).is_error
            with pytest.raises(MCPError) as caught:
                await client.call_tool("bucket_object_delete", place)

    assert caught.value.error.data == {"reason": "INSUFFICIENT_SCOPE"}


@pytest.mark.parametrize("era", ERAS)
async def test_a_search_reports_progress(server: Served, era: str) -> None:
    reports: list[tuple[float, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        reports.append((progress, message))

    with anyio.fail_after(DEADLINE_SECONDS):
        async with server.client(era) as client:
            answer = await client.call_tool(
                "bucket_objects_search",
                {"bucket": "alpha", "pattern": "many/*7"},
                progress_callback=on_progress,
            )

    assert answer.structured_content is not None
    assert len(answer.structured_content["objects"]) == 25
    assert reports == [(250, "25 found in 250 keys")]


@pytest.mark.parametrize("era", ERAS)
async def test_a_search_that_is_cancelled_stops_asking(
    slow_server: Served, slow_storage: SlowStorage, era: str
) -> None:
    """A legacy client says so in another POST; a later one closes the stream of its request."""
    with anyio.fail_after(DEADLINE_SECONDS):
        async with slow_server.client(era) as client:
            async with anyio.create_task_group() as calls:
                calls.start_soon(client.call_tool, "bucket_objects_search", {"bucket": "alpha"})
                await slow_storage.hangs.wait()
                assert not slow_storage.left.is_set()
                calls.cancel_scope.cancel()
            await slow_storage.left.wait()
            assert not (await client.call_tool("whoami", {})).is_error


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("alpha", 200),
        ("=?base64?YWxwaGE=?=", 200),
        ("beta", 400),
        ("ALPHA", 400),
        ("=?base64?!?=", 400),
        (None, 400),
    ],
)
async def test_a_header_for_routing_agrees_with_the_body(
    server: Served, header: str | None, status: int
) -> None:
    async with httpx2.AsyncClient(base_url=server.url, timeout=TIMEOUT_SECONDS) as http:
        endpoint = Endpoint(http, server.resolver, Meeting())
        response = await endpoint.modern(
            "tools/call",
            {"name": "bucket_objects_list", "arguments": {"bucket": "alpha", "max_keys": 1}},
            token="alice",
            headers={"Mcp-Param-Bucket": header} if header else None,
        )
    assert response.status_code == status
    if status == 400:
        assert response.json()["error"]["code"] == -32020


async def test_whoami_shows_no_secret_and_no_more_claims(server: Served) -> None:
    server.resolver.tokens["alice"] = replace(somebody(), claims_json=b'{"private": "matter"}')
    issued = AwsCredentials("AKIASHOWN", Secret("hidden"), Secret("hidden"), "us-east-1", 2e9)
    server.resolver.issued["alice"] = issued
    with anyio.fail_after(DEADLINE_SECONDS):
        async with server.client("legacy") as client:
            answer = await client.call_tool("whoami", {})

    assert answer.structured_content is not None
    assert "credentials" not in answer.structured_content
    assert answer.structured_content["subject"] == "alice"
    for hidden in ("private", "hidden", "AKIASHOWN"):
        assert hidden not in str(answer)


async def test_each_callers_storage_is_their_own(server: Served) -> None:
    """Two callers at once, over one server: each sees the buckets of their own token."""
    seen: dict[str, list[str]] = {}

    async def ask(token: str) -> None:
        async with server.client("legacy", token) as client:
            for _ in range(5):
                answer = await client.call_tool("discover_buckets", {})
                assert answer.structured_content is not None
                found = [item["name"] for item in answer.structured_content["buckets"]]
                assert seen.setdefault(token, found) == found

    with anyio.fail_after(DEADLINE_SECONDS):
        async with anyio.create_task_group() as callers:
            callers.start_soon(ask, "alice")
            callers.start_soon(ask, "bob")

    assert seen == {"alice": ["alpha", "missing-one"], "bob": ["empty-one"]}
