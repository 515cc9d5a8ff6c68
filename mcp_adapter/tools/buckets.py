"""Which buckets a principal's claims name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import anyio
from pydantic import BaseModel, Field

from authsvc.domain.resolution import Principal
from mcp_adapter.tools.call import Call
from mcp_adapter.tools.declaration import tool
from mcp_adapter.tools.storage import S3Error, is_bucket_name, s3_errors, s3_of

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

MAX_CHECKS = 8
"""Buckets that one call asks for at once."""

Access = Literal["unchecked", "reachable", "denied", "missing", "unavailable"]


class Bucket(BaseModel):
    """A bucket that the caller's token names."""

    name: str
    s3_uri: str
    region: str = Field(description="From S3 once it is checked; as configured before that.")
    permissions: list[str] = Field(description="What the token permits on it.")
    access: Access = Field(description="Whether the credentials reach it, if that was asked for.")


class Buckets(BaseModel):
    """All of them, in the token's order."""

    buckets: list[Bucket]


@tool(title="Discover buckets", scopes=("buckets.read",))
async def discover_buckets(
    call: Call,
    check_access: Annotated[
        bool, Field(description="Whether to ask S3 for each of them; slower.")
    ] = False,
) -> Buckets:
    """List the buckets that your token names, with what it permits on them.

    With check_access, each is asked for with your own credentials: "reachable", "denied" by the
    role behind your token, "missing", or "unavailable" for the moment.
    """
    permissions = permitted(call.principal)
    buckets = [
        Bucket(
            name=name,
            s3_uri=f"s3://{name}",
            region=call.s3.region,
            permissions=permissions,
            access="unchecked",
        )
        for name in call.principal.buckets
    ]
    if check_access:
        await _check(call, buckets)
    return Buckets(buckets=buckets)


def permitted(principal: Principal) -> list[str]:
    """The permissions that apply to a single bucket, in the token's order."""
    of_the_account = "s3:ListAllMyBuckets"
    return [
        item for item in principal.permissions if item.startswith("s3:") and item != of_the_account
    ]


async def _check(call: Call, buckets: list[Bucket]) -> None:
    """Ask S3 for each, a few at a time."""
    limit = anyio.Semaphore(MAX_CHECKS)
    done = 0

    async def check(client: S3Client, bucket: Bucket) -> None:
        nonlocal done
        async with limit:
            await _ask(call, client, bucket)
        done += 1
        await call.report(done, len(buckets), f"{done} of {len(buckets)} checked")

    async with s3_of(call) as client, anyio.create_task_group() as tasks:
        for bucket in buckets:
            tasks.start_soon(check, client, bucket)


async def _ask(call: Call, client: S3Client, bucket: Bucket) -> None:
    if not is_bucket_name(bucket.name):
        bucket.access = "missing"
        return
    try:
        with s3_errors(call.s3):
            head = await client.head_bucket(Bucket=bucket.name)
    except S3Error as error:
        bucket.access = _MEANING.get(error.code, "unavailable")
    else:
        bucket.access = "reachable"
        bucket.region = head.get("BucketRegion") or bucket.region


_MEANING: dict[str, Access] = {
    "403": "denied",
    "AccessDenied": "denied",
    "404": "missing",
    "NoSuchBucket": "missing",
}
