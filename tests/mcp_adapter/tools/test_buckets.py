"""Which buckets there are, by the claims and by S3."""

from __future__ import annotations

import pytest

from mcp_adapter.tools import buckets
from mcp_adapter.tools.buckets import discover_buckets
from mcp_adapter.tools.s3 import S3Clients
from tests.mcp_adapter.tools.calls import answer, call_of, credentials, refusal
from tests.mcp_adapter.tools.slow_storage import SlowStorage
from tests.support.recording import Recording

pytestmark = pytest.mark.anyio


async def test_buckets_come_from_the_claims(clients: S3Clients, seen: Recording) -> None:
    of_the_token = ("s3:ListBucket", "s3:ListAllMyBuckets", "billing:Read", "s3:GetObject")
    call = call_of(clients, buckets=("zeta", "alpha"), permissions=of_the_token)

    found = await answer(discover_buckets, call)

    assert found == {
        "buckets": [
            {
                "name": name,
                "s3_uri": f"s3://{name}",
                "region": "us-east-1",
                "permissions": ["s3:ListBucket", "s3:GetObject"],
                "access": "unchecked",
            }
            for name in ("zeta", "alpha")
        ]
    }
    assert seen.calls == []


async def test_a_token_that_names_no_bucket_has_none(clients: S3Clients) -> None:
    assert await answer(discover_buckets, call_of(clients, buckets=())) == {"buckets": []}


async def test_access_is_checked_with_the_calls_credentials(direct: S3Clients) -> None:
    async with direct.client(credentials()) as client:
        await client.create_bucket(
            Bucket="far-away", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
    call = call_of(direct, buckets=("alpha", "missing-one", "far-away"))

    found = await answer(discover_buckets, call, check_access=True)

    assert [(item["access"], item["region"]) for item in found["buckets"]] == [
        ("reachable", "us-east-1"),
        ("missing", "us-east-1"),
        ("reachable", "eu-central-1"),
    ]


async def test_unreachable_storage_is_reported_for_each_bucket() -> None:
    nowhere = S3Clients(endpoint_url="http://127.0.0.1:9", region="us-east-1")
    found = await answer(discover_buckets, call_of(nowhere), check_access=True)
    await nowhere.close()
    assert {item["access"] for item in found["buckets"]} == {"unavailable"}


async def test_without_credentials_there_is_nothing_to_check_with(clients: S3Clients) -> None:
    call = call_of(clients, key=None)
    assert "None of your roles" in await refusal(discover_buckets, call, check_access=True)


async def test_many_are_checked_at_once_and_no_more_than_that(
    slow_storage: SlowStorage,
) -> None:
    """The storage answers once as many requests wait as may; a ninth would be noticed."""
    slow_storage.holds = buckets.MAX_CHECKS
    names = tuple(f"bucket-{number:02}" for number in range(3 * buckets.MAX_CHECKS))

    found = await answer(
        discover_buckets, call_of(slow_storage.clients, buckets=names), check_access=True
    )

    assert {item["access"] for item in found["buckets"]} == {"reachable"}
    assert [item["name"] for item in found["buckets"]] == list(names)
    assert slow_storage.most_at_once == buckets.MAX_CHECKS
