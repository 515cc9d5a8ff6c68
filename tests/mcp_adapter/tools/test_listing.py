"""Listing and searching a bucket on a real S3 API."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.s3.models import s3_backends
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mcp_adapter.tools import Call
from mcp_adapter.tools import listing as listing_module
from mcp_adapter.tools.listing import bucket_objects_list, bucket_objects_search
from mcp_adapter.tools.s3 import S3Clients
from mcp_adapter.tools.slices import ResultT, Slices
from tests.mcp_adapter.harness import running
from tests.mcp_adapter.tools.calls import answer, call_of, refusal
from tests.support.recording import Recording

pytestmark = pytest.mark.anyio


async def listing(call: Call, **arguments: object) -> Any:  # noqa: ANN401 - JSON
    return await answer(bucket_objects_list, call, **{"bucket": "alpha", **arguments})


async def refused(call: Call, **arguments: object) -> str:
    return await refusal(bucket_objects_list, call, **{"bucket": "alpha", **arguments})


async def test_an_object_has_all_that_is_promised(clients: S3Clients) -> None:
    page = await listing(call_of(clients), prefix="data/", max_keys=1)
    (item,) = page["objects"]
    assert item.pop("last_modified").endswith("Z")
    assert item == {
        "key": "data/one.txt",
        "s3_uri": "s3://alpha/data/one.txt",
        "size": 1,
        "etag": "9dd4e461268c8034f5c8564e155c67a6",
        "storage_class": "STANDARD",
    }
    assert (page["bucket"], page["prefix"], page["truncated"]) == ("alpha", "data/", True)


@pytest.mark.parametrize("max_keys", [1000, 100, 7])
async def test_pages_hold_every_key_once(
    clients: S3Clients, keys: list[str], max_keys: int
) -> None:
    found: list[str] = []
    more: dict[str, object] = {}
    while True:
        page = await listing(call_of(clients), max_keys=max_keys, **more)
        found += [item["key"] for item in page["objects"]]
        assert len(found) <= len(keys)
        assert len(page["objects"]) <= max_keys
        assert page["truncated"] == (page["next_token"] is not None)
        if not page["truncated"]:
            break
        more = {"continuation_token": page["next_token"]}
    assert found == keys


async def test_a_page_has_a_hundred_unless_asked(clients: S3Clients) -> None:
    assert len((await listing(call_of(clients)))["objects"]) == 100


@pytest.mark.parametrize(
    ("bucket", "count"),
    [("alpha", 100), ("s3://alpha", 100), ("s3://alpha/", 100), (" s3://alpha/data/ ", 2)],
)
async def test_a_bucket_has_many_spellings(clients: S3Clients, bucket: str, count: int) -> None:
    assert len((await listing(call_of(clients), bucket=bucket))["objects"]) == count


@pytest.mark.parametrize(
    "bucket", ["other", "s3://other/alpha", "alphabet", "alph", "ALPHA", "alpha.", "../alpha"]
)
async def test_a_bucket_that_the_claims_do_not_name_is_denied_before_s3_is_asked(
    clients: S3Clients, seen: Recording, bucket: str
) -> None:
    assert "token does not name" in await refused(call_of(clients), bucket=bucket)
    assert seen.calls == []


async def test_a_refusal_is_no_oracle(clients: S3Clients) -> None:
    call = call_of(clients, buckets=("else",))
    there, absent = await refused(call, bucket="alpha"), await refused(call, bucket="nowhere")
    assert there.replace("alpha", "X") == absent.replace("nowhere", "X")


async def test_a_missing_permission_is_named(clients: S3Clients, seen: Recording) -> None:
    assert "s3:ListBucket" in await refused(call_of(clients, permissions=("s3:GetObject",)))
    assert seen.calls == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_keys": 0},
        {"max_keys": 1001},
        {"max_keys": "many"},
        {"bucket": 7},
        {"bucket": ""},
        {"bucket": "s3://"},
        {"bucket": "a\nb"},
        {"prefix": "x" * 1025},
        {"continuation_token": 7},
        {"surprise": 1},
    ],
    ids=repr,
)
async def test_bad_arguments_are_explained(
    clients: S3Clients, seen: Recording, arguments: dict[str, object]
) -> None:
    (name,) = arguments
    assert name in await refused(call_of(clients), **arguments)
    assert seen.calls == []


async def test_what_s3_refuses_is_an_error_with_its_cause(clients: S3Clients) -> None:
    assert "NoSuchBucket" in await refused(call_of(clients), bucket="missing-one")


async def test_an_empty_bucket_is_not_an_error(clients: S3Clients) -> None:
    page = await listing(call_of(clients), bucket="empty-one")
    assert (page["objects"], page["truncated"], page["next_token"]) == ([], False, None)


async def test_s3_out_of_reach_is_an_error() -> None:
    nowhere = S3Clients(endpoint_url="http://127.0.0.1:9", region="us-east-1")
    assert "is unreachable" in await refused(call_of(nowhere))
    await nowhere.close()


async def search(call: Call, **arguments: object) -> Any:  # noqa: ANN401 - JSON
    return await answer(bucket_objects_search, call, **{"bucket": "alpha", **arguments})


async def searched(call: Call, **arguments: object) -> list[str]:
    """All that a search finds, page by page."""
    found: list[str] = []
    more: dict[str, object] = {}
    while True:
        page = await search(call, **arguments, **more)
        found += [item["key"] for item in page["objects"]]
        assert page["truncated"] == (page["next_token"] is not None)
        if not page["truncated"]:
            return found
        more = {"continuation_token": page["next_token"]}


async def test_prefix_and_path_of_a_uri_are_one_thing(clients: S3Clients, seen: Recording) -> None:
    assert "give one of the two" in await refused(
        call_of(clients), bucket="s3://alpha/data", prefix="many"
    )
    assert seen.calls == []


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", lambda _: True),
        ("data/*", ["data/one.txt", "data/two.txt"]),
        ("*.txt", lambda key: key.endswith(".txt")),
        ("a?b.txt", ["a b.txt", "a+b.txt"]),
        ("a[+ ]b.txt", ["a b.txt", "a+b.txt"]),
        ("a[!+]b.txt", ["a b.txt"]),
        ("ünï*✓*", ["ünïcödé/✓.txt"]),
        ("DATA/*", []),
        ("data", []),
        ("many/00[0-4]?", lambda key: key.startswith("many/00") and key[7] in "01234"),
        ("[", []),
        ("[[]*", []),
    ],
)
async def test_a_pattern_is_of_the_whole_key(
    clients: S3Clients,
    keys: list[str],
    pattern: str,
    expected: list[str] | Callable[[str], bool],
) -> None:
    matching = [key for key in keys if expected(key)] if callable(expected) else expected
    assert await searched(call_of(clients), pattern=pattern) == matching


@pytest.mark.parametrize("max_results", [1000, 100, 7, 1])
async def test_pages_of_a_search_hold_every_match_once(
    direct: S3Clients, keys: list[str], max_results: int
) -> None:
    found = await searched(call_of(direct), pattern="many/*[05]", max_results=max_results)
    assert found == [key for key in keys if key.startswith("many/") and key[-1] in "05"]


async def test_a_search_reads_no_more_of_the_bucket_than_it_has_to(
    clients: S3Clients, seen: Recording
) -> None:
    page = await search(call_of(clients), pattern="data/t*.txt")
    assert page["scanned"] == 1
    assert "prefix=data%2Ft" in seen.calls[-1][1]
    both = await search(call_of(clients), pattern="many/*", prefix="many/000")
    assert both["scanned"] == len(both["objects"]) == 10
    neither = await search(call_of(clients), pattern="data/*", prefix="many/")
    assert neither["objects"] == []


async def test_a_search_stops_after_so_many_pages_and_goes_on_where_it_was(
    clients: S3Clients, seen: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_module, "PAGE_KEYS", 20)
    monkeypatch.setattr(listing_module, "MAX_PAGES", 3)

    page = await search(call_of(clients), pattern="*0249")

    assert (page["objects"], page["scanned"], page["truncated"]) == ([], 60, True)
    assert len(seen.calls) == 3
    assert await searched(call_of(clients), pattern="*0249") == ["many/0249"]


@pytest.mark.parametrize("token", ["?", "a", "gA==", "ü"])
async def test_a_made_up_token_is_rejected(clients: S3Clients, seen: Recording, token: str) -> None:
    said = await refusal(
        bucket_objects_search, call_of(clients), bucket="alpha", continuation_token=token
    )
    assert "continuation_token" in said
    assert seen.calls == []


async def test_a_token_of_a_search_opens_no_other_bucket(clients: S3Clients) -> None:
    page = await search(call_of(clients), max_results=1)
    said = await refusal(
        bucket_objects_search,
        call_of(clients, buckets=("empty-one",)),
        bucket="alpha",
        continuation_token=page["next_token"],
    )
    assert "does not name" in said


async def test_a_pattern_costs_no_more_than_its_keys(clients: S3Clients) -> None:
    """One that a backtracking matcher would never be done with."""
    assert await searched(call_of(clients), pattern="*a" * 32 + "b") == []
    whole = re.compile(fnmatch.translate("*a" * 500 + "b"))
    assert whole.match("a" * 1024) is None


@pytest.mark.parametrize(
    "pattern",
    ["*a" * 33, "?" * 33, "*" + "[a-c]" * 200, "*" + "a" * 256, "prefix/*" + "a" * 256],
    ids=lambda pattern: pattern[:10],
)
async def test_a_pattern_that_would_take_long_is_rejected(
    clients: S3Clients, seen: Recording, pattern: str
) -> None:
    said = await refusal(bucket_objects_search, call_of(clients), bucket="alpha", pattern=pattern)
    assert "more than 32 wildcards, or more than 256 characters" in said
    assert seen.calls == []


@pytest.mark.parametrize(
    "pattern", ["*a" * 32, "?" * 32, "*" + "a" * 255, "a" * 900 + "*" + "b" * 120]
)
async def test_a_pattern_at_the_bounds_is_searched_for(clients: S3Clients, pattern: str) -> None:
    assert await searched(call_of(clients), pattern=pattern) == []


class CountedSlices(Slices):
    """Counts the steps of each work."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    async def collected(self, work: Iterable[ResultT]) -> list[ResultT]:
        results = await super().collected(work)
        self.steps.append(len(results))
        return results


async def test_keys_are_parsed_and_matched_in_slices(clients: S3Clients, keys: list[str]) -> None:
    clients.slices = counted = CountedSlices()
    assert await searched(call_of(clients), pattern="*z", max_results=1000) == []
    pages = [listing_module.PAGE_KEYS, len(keys) - listing_module.PAGE_KEYS]
    # Of each page the XML by its bytes, what it says of each object, and each key.
    assert (counted.steps[1::3], counted.steps[2::3]) == (pages, pages)


async def test_pages_are_small_however_much_is_asked_for(
    clients: S3Clients, seen: Recording, keys: list[str]
) -> None:
    listed = await answer(bucket_objects_list, call_of(clients), bucket="alpha", max_keys=253)
    sizes = [int(parse_qs(urlsplit(path).query)["max-keys"][0]) for _, path in seen.calls]
    assert sizes == [listing_module.PAGE_KEYS, 3]
    assert len(listed["objects"]) == 253
    assert listed["truncated"]
    rest = await answer(
        bucket_objects_list,
        call_of(clients),
        bucket="alpha",
        max_keys=1000,
        continuation_token=listed["next_token"],
    )
    assert (len(rest["objects"]), rest["truncated"], rest["next_token"]) == (
        len(keys) - 253,
        False,
        None,
    )


async def test_a_listing_reads_so_many_pages_whatever_is_in_them() -> None:
    """S3 may answer with an empty page where there is more, such as after many deletions."""
    asked: list[str] = []

    async def empty_page(request: Request) -> Response:
        asked.append(request.query_params.get("continuation-token", ""))
        is_truncated = "true" if len(asked) <= listing_module.MAX_PAGES else "false"
        return Response(
            f"<ListBucketResult><IsTruncated>{is_truncated}</IsTruncated><NextContinuationToken>"
            f"after {len(asked)}</NextContinuationToken></ListBucketResult>"
        )

    async with running(Starlette(routes=[Route("/{path:path}", empty_page)])) as url:
        clients = S3Clients(endpoint_url=url, region="us-east-1")
        page = await listing(call_of(clients))
        await clients.close()

    most = listing_module.MAX_PAGES
    assert asked == ["", *(f"after {number}" for number in range(1, most))]
    assert (page["objects"], page["truncated"]) == ([], True)
    assert page["next_token"] == f"after {most}"


async def test_times_of_a_listing_cost_little(
    clients: S3Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A general parser took four fifths of the time that the event loop stood still for a page."""

    def parsed(value: str) -> datetime:
        raise AssertionError(value)

    monkeypatch.setattr("authsvc.common.aws_isolation.parse_timestamp", parsed)
    listed = await answer(bucket_objects_list, call_of(clients), bucket="alpha", max_keys=10)
    for item in listed["objects"]:
        assert datetime.fromisoformat(item["last_modified"]).tzinfo is not None


@given(pattern=st.text(alphabet="ab/*?[]!^-&|~\\.", min_size=1, max_size=30))
def test_any_pattern_can_be_searched_for(pattern: str) -> None:
    compiled = re.compile(fnmatch.translate(pattern))
    key = pattern.translate({ord("*"): "a", ord("?"): "b"})
    narrowed = listing_module._narrower("", pattern)
    if compiled.match(key):
        assert key.startswith(narrowed)


async def test_five_thousand_objects_are_listed_in_order_without_loss(
    direct: S3Clients, upstream: str
) -> None:
    keys = [f"{number % 7}/{number:05}" for number in range(5000)]
    call = call_of(direct, buckets=("thousands",))
    s3_backends["123456789012"]["aws"].create_bucket("thousands", "us-east-1")
    for key in keys:
        s3_backends["123456789012"]["aws"].put_object("thousands", key, b"")
    keys.sort()

    listed: list[str] = []
    more: dict[str, object] = {}
    while True:
        page = await listing(call, bucket="thousands", max_keys=1000, **more)
        listed += [item["key"] for item in page["objects"]]
        if not page["truncated"]:
            break
        more = {"continuation_token": page["next_token"]}

    assert listed == keys
    assert await searched(call, bucket="thousands", max_results=999) == keys
