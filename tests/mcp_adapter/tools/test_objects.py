"""Single objects on a real S3 API: what they are, what is in them, links to them."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urljoin, urlsplit

import httpx2
import pytest
import yarl
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.s3.models import s3_backends

from authsvc.domain.resolution import AwsCredentials, Secret
from mcp_adapter.tools import Call, Tool
from mcp_adapter.tools.buckets import discover_buckets
from mcp_adapter.tools.changes import bucket_object_delete, bucket_object_put
from mcp_adapter.tools.listing import bucket_objects_list, bucket_objects_search
from mcp_adapter.tools.objects import bucket_object_info, bucket_object_link, bucket_object_text
from mcp_adapter.tools.s3 import S3Clients
from tests.mcp_adapter.tools.calls import answer, call_of, calling, credentials, refusal
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.recording import Recording

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

pytestmark = pytest.mark.anyio

DOT_SEGMENTS = [
    "../beta/secret",
    "../../etc/passwd",
    "./here",
    "a/./b",
    "a/..",
    "..",
    ".",
    "a//../b",
]

HOSTILE_KEYS = [
    "..hidden/.../x..",
    "%2e%2e/beta/secret",
    "..\\beta",
    "a//b",
    "/leading",
    "nul\x00byte",
    "tab\tbell\x07delete\x7f",
    "next\x85line\u2028separator",
    "\u202eright to left",
    "quo\"te\\back'slash",
    "per%cent%2e%2e%2f and+plus",
    "?query=1&b=2#fragment",
    "<xml>&amp;</xml>",
    " leading and trailing ",
    "emoji 🪣 and ünïcödé",
    "n" * 1024,
    "✓" * 341,
    "{json: [1]}",
]

OF_ONE_OBJECT = [
    bucket_object_info,
    bucket_object_text,
    bucket_object_link,
    bucket_object_put,
    bucket_object_delete,
]

SEGMENT = st.sampled_from(["..", ".", "", "beta", "%2e%2e", "..%2f", "...", "a b"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=5
)
KEY = st.lists(SEGMENT, min_size=1, max_size=5).map("/".join).filter(bool)

KEYS_WITH_LINE_BREAKS = ["line\nbreak", "carriage\r\nSet-Cookie: a=b", "data: {}\n\nevent: x"]
"""The S3 of the tests finds no route to these, so they get there past its HTTP side."""


@pytest.fixture
async def s3(direct: S3Clients) -> AsyncIterator[S3Client]:
    """A client that puts objects there, past all tools."""
    async with direct.client(credentials()) as client:
        await client.create_bucket(Bucket="hostile")
        yield client


@pytest.fixture
def call(direct: S3Clients) -> Call:
    return call_of(direct, buckets=("alpha", "empty-one", "missing-one", "hostile"))


async def test_an_object_is_described(s3: S3Client, call: Call) -> None:
    await s3.put_object(
        Bucket="alpha",
        Key="described",
        Body=b"12345",
        ContentType="text/csv; charset=utf-8",
        ContentEncoding="identity",
        Metadata={"b": "2", "a": "1"},
    )
    info = await answer(bucket_object_info, call, bucket="alpha", key="described")

    assert datetime.fromisoformat(info.pop("last_modified")).tzinfo is not None
    assert info == {
        "bucket": "alpha",
        "key": "described",
        "s3_uri": "s3://alpha/described",
        "size": 5,
        "etag": "827ccb0eea8a706c4c34a16891f84e7b",
        "content_type": "text/csv; charset=utf-8",
        "content_encoding": "identity",
        "storage_class": "STANDARD",
        "version_id": None,
        "metadata": {"a": "1", "b": "2"},
    }


@pytest.mark.parametrize(
    "place",
    [
        {"bucket": "alpha", "key": "data/one.txt"},
        {"bucket": "s3://alpha", "key": "data/one.txt"},
        {"bucket": "s3://alpha/data/one.txt"},
        {"bucket": "alpha/data/one.txt"},
    ],
)
async def test_a_place_has_several_spellings(call: Call, place: dict[str, str]) -> None:
    assert (await answer(bucket_object_info, call, **place))["key"] == "data/one.txt"


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        ({"bucket": "alpha"}, "key: is missing"),
        ({"bucket": "s3://alpha/"}, "key: is missing"),
        ({"bucket": "s3://alpha/a", "key": "a"}, "give one of the two"),
        ({"bucket": "alpha", "key": "✓" * 342}, "longer than 1024 bytes"),
        ({"bucket": "s3://alpha/" + "n" * 1025}, "longer than 1024 bytes"),
        ({"bucket": "alpha", "key": "n" * 1025}, "key: String should have at most"),
        ({"bucket": "alpha", "key": "\ud800"}, "Unicode"),
        ({"bucket": "\ud800", "key": "a"}, "Unicode"),
        ({"bucket": "a\x00b", "key": "a"}, "not the name of a bucket"),
        ({"bucket": "bücket", "key": "a"}, "not the name of a bucket"),
        ({"bucket": "a\nb", "key": "a"}, "not the name of a bucket"),
        ({"bucket": "other", "key": "a"}, "does not name the bucket 'other'"),
        ({"bucket": "../alpha", "key": "a"}, "does not name the bucket '..'"),
        ({"bucket": "ALPHA", "key": "a"}, "does not name the bucket 'ALPHA'"),
        ({"bucket": "x" * 1000, "key": "a"}, "x…'".replace("…", "\\u2026")),
    ],
    ids=lambda value: ascii(value)[:40],
)
@pytest.mark.parametrize(
    "tool", [bucket_object_info, bucket_object_text, bucket_object_link, bucket_object_delete]
)
async def test_no_other_place_is_reached(
    clients: S3Clients, seen: Recording, tool: object, place: dict[str, str], complaint: str
) -> None:
    text = await refusal(tool, call_of(clients), **place)  # type: ignore[arg-type] # they are tools
    assert complaint in text
    assert text.isascii()
    assert text.isprintable()
    assert seen.calls == []


@pytest.mark.parametrize("key", HOSTILE_KEYS, ids=lambda key: ascii(key)[:30])
async def test_hostile_keys_go_there_and_back(s3: S3Client, call: Call, key: str) -> None:
    written = await answer(bucket_object_put, call, bucket="hostile", key=key, text=f"in {key}")
    listed = await answer(bucket_objects_list, call, bucket="hostile", prefix=key)
    found = await answer(bucket_objects_search, call, bucket="hostile", prefix=key)
    info = await answer(bucket_object_info, call, bucket="hostile", key=key)
    read = await answer(bucket_object_text, call, bucket="hostile", key=key)

    assert [item["key"] for item in listed["objects"]] == [key]
    assert [item["key"] for item in found["objects"]] == [key]
    assert written["key"] == info["key"] == read["key"] == key
    assert read["text"] == f"in {key}"
    await answer(bucket_object_delete, call, bucket="hostile", key=key)
    gone = await refusal(bucket_object_info, call, bucket="hostile", key=key)
    assert gone == "S3 answered 404: there is no such object."


@pytest.mark.parametrize("key", DOT_SEGMENTS)
@pytest.mark.parametrize("tool", OF_ONE_OBJECT, ids=lambda tool: tool.name)
async def test_no_tool_asks_for_a_path_that_leads_elsewhere(
    clients: S3Clients, seen: Recording, tool: Tool, key: str
) -> None:
    text = {"text": "x"} if tool is bucket_object_put else {}
    for place in ({"bucket": "alpha", "key": key}, {"bucket": f"s3://alpha/{key}"}):
        assert "key: has . or .." in await refusal(tool, call_of(clients), **place, **text)
    assert seen.calls == []


NO_BUCKETS = [
    ".",
    "..",
    "a",
    "*",
    "%2e%2e",
    "a?b",
    "arn:aws:s3:eu-west-1:123456789012:accesspoint:a",
]


@pytest.mark.parametrize("name", NO_BUCKETS)
async def test_what_is_no_bucket_is_never_asked_for(name: str) -> None:
    """Whatever the claims name."""
    async with targets() as (clients, seen):
        call = call_of(clients, buckets=(name, "alpha"))
        for tool in (*OF_ONE_OBJECT, bucket_objects_list, bucket_objects_search):
            place = {"bucket": name} | ({"key": "alpha/x"} if tool in OF_ONE_OBJECT else {})
            text = {"text": "x"} if tool is bucket_object_put else {}
            assert "not the name of a bucket" in await refusal(tool, call, **place, **text)
        assert not seen
        found = await answer(discover_buckets, call, check_access=True)
        assert [item["access"] for item in found["buckets"]] == ["missing", "missing"]
        assert seen == ["/alpha"]


@asynccontextmanager
async def targets() -> AsyncIterator[tuple[S3Clients, list[str]]]:
    """Clients of an S3 that has nothing, and what it is asked for, byte by byte."""
    seen: list[str] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head.split(b" ")[1].decode("ascii"))
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(note, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        clients = S3Clients(endpoint_url=f"http://127.0.0.1:{port}", region="us-east-1")
        yield clients, seen
        await clients.close()


@settings(max_examples=40)
@given(key=KEY, tool=st.sampled_from(OF_ONE_OBJECT))
def test_a_key_is_asked_for_in_its_bucket_or_not_at_all(key: str, tool: Tool) -> None:
    asyncio.run(asked_for_in_its_bucket(key, tool))


async def asked_for_in_its_bucket(key: str, tool: Tool) -> None:
    async with targets() as (clients, seen):
        text = {"text": "x"} if tool is bucket_object_put else {}
        result = await tool.run(call_of(clients), {"bucket": "alpha", "key": key, **text})
    if tool is bucket_object_link and result.structured_content is not None:
        seen.append(urlsplit(result.structured_content["url"]).path)
    for target in seen:
        path = urlsplit(target).path
        assert unquote(path, errors="strict") == f"/alpha/{key}"
        # As browsers and proxies have it: nothing is left to take out.
        assert urlsplit(urljoin("http://s3.example/", target)).path == path
        assert str(yarl.URL(f"http://s3.example{target}").raw_path).startswith("/alpha/")
    assert bool(seen) != ("key: has . or .." in str(result.content))


@pytest.mark.parametrize("key", KEYS_WITH_LINE_BREAKS, ids=ascii)
async def test_keys_with_line_breaks_break_nothing(
    s3: S3Client, clients: S3Clients, seen: Recording, key: str
) -> None:
    s3_backends["123456789012"]["aws"].put_object("hostile", key, b"x")
    call = call_of(clients, buckets=("hostile",))
    place = {"bucket": "hostile", "key": key}

    listed = await answer(bucket_objects_list, call, bucket="hostile", prefix=key)
    found = await answer(bucket_objects_search, call, bucket="hostile", pattern=key[:5] + "*")
    link = await answer(bucket_object_link, call, **place)
    said = await refusal(bucket_object_text, call, **place)

    assert [item["key"] for item in listed["objects"]] == [key]
    assert key in [item["key"] for item in found["objects"]]
    assert link["url"].isprintable()
    assert unquote(urlsplit(link["url"]).path) == f"/hostile/{key}"
    assert said.isprintable()
    assert unquote(urlsplit(seen.calls[-1][1]).path) == f"/hostile/{key}"


@pytest.mark.parametrize("key", HOSTILE_KEYS, ids=lambda key: ascii(key)[:30])
async def test_a_link_leads_to_its_object(s3: S3Client, call: Call, key: str) -> None:
    await s3.put_object(Bucket="hostile", Key=key, Body=b"linked")
    result = await bucket_object_link.run(call, {"bucket": "hostile", "key": key})
    assert result.structured_content is not None
    url = result.structured_content["url"]

    assert url.isascii()
    assert url.isprintable()
    assert not set(' "<>\\^`{|}') & set(url)
    assert httpx2.get(url, timeout=TIMEOUT_SECONDS).content == b"linked"
    assert json.loads(result.model_dump_json())["content"][1]["name"] == key


@pytest.mark.parametrize(
    ("asked", "credentials_end", "token_ends", "most"),
    [(900, 0, 3600, 900), (900, 300, 3600, 299), (900, 3600, 60, 59), (43200, 0, 0, 43200)],
)
async def test_a_link_never_outlives_credentials_or_token(
    call: Call, asked: int, credentials_end: int, token_ends: int, most: int
) -> None:
    now = int(time.time())
    issued = credentials(expire_time=now + credentials_end if credentials_end else 0.0)
    who = replace(call.principal, expire_time=now + token_ends if token_ends else 0.0)
    call = calling(who, call.s3, issued)

    link = await answer(
        bucket_object_link, call, bucket="alpha", key="a b.txt", expires_in_seconds=asked
    )

    query = parse_qs(urlsplit(link["url"]).query)
    signed = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    end = signed.timestamp() + int(query["X-Amz-Expires"][0])
    assert datetime.fromisoformat(link["expires_at"]).timestamp() == end
    # What is left of a limit is counted at some time after ``now``, and in whole seconds.
    late = signed.timestamp() - now + 2
    assert most - late <= end - signed.timestamp() <= most
    for limit in (credentials_end, token_ends):
        assert not limit or end < now + limit


@pytest.mark.parametrize("left", [-10, 0, 1.9])
async def test_no_link_is_made_at_the_very_end(call: Call, left: float) -> None:
    issued = credentials(expire_time=5000 + left)
    call = replace(calling(call.principal, call.s3, issued), clock=lambda: 5000.0)
    assert "end too soon" in await refusal(bucket_object_link, call, bucket="alpha", key="a")


async def test_a_link_is_signed_by_the_sessions_own_credentials(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAMBIENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ambient")
    issued = AwsCredentials("ASIATEMP", Secret("s"), Secret("the token"), "eu-west-3", 0.0)
    call = calling(call.principal, call.s3, issued)

    link = await answer(bucket_object_link, call, bucket="alpha", key="a b.txt")

    query = parse_qs(urlsplit(link["url"]).query)
    assert query["X-Amz-Credential"][0].startswith("ASIATEMP/")
    assert "/eu-west-3/s3/" in query["X-Amz-Credential"][0]
    assert query["X-Amz-Security-Token"] == ["the token"]
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]


async def test_text_is_read_in_pieces_that_fit_together(s3: S3Client, call: Call) -> None:
    whole = "".join(chr(point) for point in (0x61, 0xE9, 0x2713, 0x1F600)) * 50
    await s3.put_object(Bucket="alpha", Key="pieces", Body=whole.encode(), ContentType="text/plain")
    text, etag = "", None
    start: int | None = 0
    while start is not None:
        piece = await answer(
            bucket_object_text,
            call,
            bucket="alpha",
            key="pieces",
            start=start,
            max_bytes=16,
            etag=etag,
        )
        assert piece["encoding"] == "utf-8"
        assert piece["start"] == start
        assert 0 < piece["end"] - start <= 16
        assert piece["size"] == len(whole.encode())
        text, start, etag = text + piece["text"], piece["next_start"], piece["etag"]
    assert text == whole


async def test_an_object_that_changes_between_pieces_is_an_error(s3: S3Client, call: Call) -> None:
    await s3.put_object(Bucket="alpha", Key="changing", Body=b"before")
    piece = await answer(bucket_object_text, call, bucket="alpha", key="changing")
    await s3.put_object(Bucket="alpha", Key="changing", Body=b"behind")

    said = await refusal(
        bucket_object_text, call, bucket="alpha", key="changing", etag=piece["etag"]
    )

    assert "PreconditionFailed" in said
    injected = {"bucket": "alpha", "key": "changing", "etag": 'a"\r\nx-amz-y: z'}
    assert "etag:" in await refusal(bucket_object_text, call, **injected)


async def test_no_more_is_read_than_asked(s3: S3Client, call: Call) -> None:
    await s3.put_object(Bucket="alpha", Key="large", Body=b"x" * 100_000)
    piece = await answer(bucket_object_text, call, bucket="alpha", key="large", max_bytes=20)
    assert (piece["text"], piece["end"], piece["next_start"]) == ("x" * 20, 20, 20)
    assert (
        len((await answer(bucket_object_text, call, bucket="alpha", key="large"))["text"]) == 65536
    )


async def test_what_is_not_text_comes_as_base64(s3: S3Client, call: Call) -> None:
    data = b"\x89PNG\r\n\x1a\n\xff\xfe\x00"
    await s3.put_object(Bucket="alpha", Key="image", Body=data, ContentType="image/png")
    piece = await answer(bucket_object_text, call, bucket="alpha", key="image")
    assert piece["encoding"] == "base64"
    assert base64.b64decode(piece["text"]) == data


async def test_an_empty_object_is_empty_text(s3: S3Client, call: Call) -> None:
    await s3.put_object(Bucket="alpha", Key="empty", Body=b"")
    piece = await answer(bucket_object_text, call, bucket="alpha", key="empty")
    assert (piece["text"], piece["size"], piece["next_start"]) == ("", 0, None)
    behind = {"bucket": "alpha", "key": "data/one.txt", "start": 5}
    assert "beyond the end" in await refusal(bucket_object_text, call, **behind)


@pytest.mark.parametrize("place", [{"key": "no such"}, {"bucket": "missing-one", "key": "a"}])
async def test_what_is_not_there_is_an_error(call: Call, place: dict[str, str]) -> None:
    said = await refusal(bucket_object_text, call, **{"bucket": "alpha", **place})
    assert "NoSuch" in said


async def test_an_object_is_not_overwritten_by_accident(s3: S3Client, call: Call) -> None:
    place = {"bucket": "alpha", "key": "written"}
    await s3.delete_object(Bucket="alpha", Key="written")
    written = await answer(bucket_object_put, call, **place, text="größer")
    assert written["size"] == 8
    assert "PreconditionFailed" in await refusal(bucket_object_put, call, **place, text="other")
    assert (await answer(bucket_object_text, call, **place))["text"] == "größer"

    await answer(bucket_object_put, call, **place, text="other", overwrite=True)

    read = await answer(bucket_object_text, call, **place)
    assert (read["text"], read["content_type"]) == ("other", "text/plain; charset=utf-8")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"text": "✓" * 400_000}, "longer than"),
        ({"text": "x" * (1024 * 1024 + 1)}, "at most"),
        ({"text": "\ud800"}, "Unicode"),
        ({"text": "x", "content_type": "text/plain\r\nx-amz-acl: public-read"}, "content_type:"),
        ({"text": "x", "content_type": "x"}, "content_type:"),
    ],
    ids=lambda value: ascii(value)[:40],
)
async def test_what_cannot_be_written(
    clients: S3Clients, seen: Recording, given: dict[str, str], complaint: str
) -> None:
    said = await refusal(bucket_object_put, call_of(clients), bucket="alpha", key="a", **given)
    assert complaint in said
    assert seen.calls == []


async def test_deleting_is_for_those_who_may(s3: S3Client, call: Call) -> None:
    await s3.put_object(Bucket="alpha", Key="doomed", Body=b"x")
    reader = replace(call, principal=replace(call.principal, permissions=("s3:GetObject",)))
    place = {"bucket": "alpha", "key": "doomed"}

    assert "lacks the permission s3:DeleteObject" in await refusal(
        bucket_object_delete, reader, **place
    )
    assert (await answer(bucket_object_info, call, **place))["size"] == 1
    assert (await answer(bucket_object_delete, call, **place))["version_id"] is None
    assert "404" in await refusal(bucket_object_info, call, **place)
    await answer(bucket_object_delete, call, **place)
