"""Listing and searching a bucket on a real S3 API."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_adapter.tools import Call
from mcp_adapter.tools.listing import bucket_objects_list
from mcp_adapter.tools.s3 import S3Clients
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
async def test_a_bucket_that_the_claims_do_not_name_is_refused_before_s3_is_asked(
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
    assert "could not be asked" in await refused(call_of(nowhere))
    await nowhere.close()
