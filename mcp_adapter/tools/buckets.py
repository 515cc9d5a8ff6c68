"""What is in the buckets that a principal's claims name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel, Field

from authsvc.buckets import bucket_name
from authsvc.resolution import Principal
from mcp_adapter.tools.call import Call, ToolError
from mcp_adapter.tools.declaration import tool

if TYPE_CHECKING:
    from types_aiobotocore_s3.type_defs import ListObjectsV2RequestTypeDef


class Bucket(BaseModel):
    """A bucket that the caller's token names."""

    name: str
    s3_uri: str
    permissions: list[str] = Field(description="What the token permits on it.")


class Buckets(BaseModel):
    """All of them, in the token's order."""

    buckets: list[Bucket]


class Object(BaseModel):
    """An object in a bucket."""

    key: str
    s3_uri: str
    size: int = Field(description="In bytes.")
    last_modified: datetime
    etag: str
    storage_class: str


class Objects(BaseModel):
    """A page of a listing, by key."""

    bucket: str
    prefix: str
    objects: list[Object]
    truncated: bool = Field(description="Whether there is more.")
    next_token: str | None = Field(description="What to pass as continuation_token for more.")


@tool(title="Discover buckets", scopes=("buckets.read",))
async def discover_buckets(call: Call) -> Buckets:
    """List the buckets that your token names, with what it permits on them."""
    permissions = list(call.principal.permissions)
    return Buckets(
        buckets=[
            Bucket(name=name, s3_uri=f"s3://{name}", permissions=permissions)
            for name in call.principal.buckets
        ]
    )


@tool(title="List objects", scopes=("objects.read",), permissions=("s3:ListBucket",))
async def bucket_objects_list(
    call: Call,
    bucket: Annotated[
        str,
        Field(max_length=2048, description="A name, or an s3:// URI; its path is the prefix."),
    ],
    prefix: Annotated[
        str, Field(max_length=1024, description="Only keys that begin with this.")
    ] = "",
    max_keys: Annotated[int, Field(ge=1, le=1000, description="How many at most.")] = 100,
    continuation_token: Annotated[
        str | None, Field(max_length=4096, description="next_token of the page before.")
    ] = None,
) -> Objects:
    """List the objects in one of your buckets, by key, a page at a time."""
    name, path = _located(bucket)
    prefix = prefix or path
    authorize(call.principal, name)
    request: ListObjectsV2RequestTypeDef = {"Bucket": name, "Prefix": prefix, "MaxKeys": max_keys}
    if continuation_token:
        request["ContinuationToken"] = continuation_token
    with s3_errors():
        async with call.s3.client(call.aws_credentials()) as client:
            page = await client.list_objects_v2(**request)
    return Objects(
        bucket=name,
        prefix=prefix,
        objects=[
            Object(
                key=item["Key"],
                s3_uri=f"s3://{name}/{item['Key']}",
                size=item["Size"],
                last_modified=item["LastModified"],
                etag=item["ETag"].strip('"'),
                storage_class=item.get("StorageClass", "STANDARD"),
            )
            for item in page.get("Contents", [])
        ],
        truncated=page["IsTruncated"],
        next_token=page.get("NextContinuationToken"),
    )


def authorize(principal: Principal, bucket: str) -> None:
    """Refuse a bucket that the claims do not name, before S3 is asked.

    Args:
        principal: who is asking.
        bucket: a normalised name.

    Raises:
        ToolError: the same whether the bucket exists or not.
    """
    if bucket not in principal.buckets:
        raise ToolError(f"Your token does not name the bucket {bucket!r}; see discover_buckets.")


@contextmanager
def s3_errors() -> Iterator[None]:
    """What S3 refuses is an error with its cause, never an empty answer."""
    try:
        yield
    except ClientError as error:
        cause = error.response.get("Error", {})
        code, message = cause.get("Code", "unknown"), cause.get("Message", "")
        raise ToolError(f"S3 refused: {code}: {message}") from None
    except BotoCoreError as error:
        # Its text may quote the request.
        raise ToolError(f"S3 could not be asked: {type(error).__name__}.") from None


def _located(bucket: str) -> tuple[str, str]:
    """The bucket's name, and the path behind it in an ``s3://`` URI."""
    try:
        name = bucket_name(bucket)
    except ValueError:
        raise ToolError("bucket: not the name of a bucket.") from None
    return name, bucket.strip().removeprefix("s3://").partition("/")[2]
