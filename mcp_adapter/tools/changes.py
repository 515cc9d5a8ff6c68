"""What changes a bucket. These tools are off until settings name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field

from mcp_adapter.tools.call import Call, ToolError
from mcp_adapter.tools.declaration import tool
from mcp_adapter.tools.storage import BucketArgument, KeyArgument, object_in, s3_of

if TYPE_CHECKING:
    from types_aiobotocore_s3.type_defs import PutObjectRequestTypeDef

MAX_PUT_BYTES = 1024 * 1024
"""Bytes of text that one call writes."""


class Written(BaseModel):
    """An object that was written."""

    bucket: str
    key: str
    s3_uri: str
    etag: str
    size: int = Field(description="In bytes.")
    version_id: str | None


class Deleted(BaseModel):
    """An object that is not there any more."""

    bucket: str
    key: str
    s3_uri: str
    version_id: str | None = Field(description="Of the marker, in a bucket that keeps versions.")


@tool(
    title="Write an object",
    scopes=("objects.write",),
    permissions=("s3:PutObject",),
    read_only=False,
    audited_arguments=("bucket", "key"),
)
async def bucket_object_put(
    call: Call,
    bucket: BucketArgument,
    text: Annotated[
        str, Field(max_length=MAX_PUT_BYTES, description="The object's content; kept as UTF-8.")
    ],
    key: KeyArgument = "",
    content_type: Annotated[
        str, Field(max_length=256, pattern=r"^[!-~]+/[!-~]+( ?; ?[!-~]+)*$", description="Of it.")
    ] = "text/plain; charset=utf-8",
    overwrite: Annotated[
        bool, Field(description="Whether an object that has the key already is replaced.")
    ] = False,
) -> Written:
    """Write a text to an object. One that exists is left alone unless overwrite is set."""
    name, key = object_in(call.principal, bucket, key)
    body = text.encode()
    if len(body) > MAX_PUT_BYTES:
        raise ToolError(f"text: is longer than {MAX_PUT_BYTES} bytes.")
    request: PutObjectRequestTypeDef = {
        "Bucket": name,
        "Key": key,
        "Body": body,
        "ContentType": content_type,
    }
    if not overwrite:
        request["IfNoneMatch"] = "*"
    async with s3_of(call, name) as client:
        answer = await client.put_object(**request)
    return Written(
        bucket=name,
        key=key,
        s3_uri=f"s3://{name}/{key}",
        etag=answer["ETag"].strip('"'),
        size=len(body),
        version_id=answer.get("VersionId"),
    )


@tool(
    title="Delete an object",
    scopes=("objects.write",),
    permissions=("s3:DeleteObject",),
    read_only=False,
    audited_arguments=("bucket", "key"),
)
async def bucket_object_delete(
    call: Call, bucket: BucketArgument, key: KeyArgument = ""
) -> Deleted:
    """Delete an object. That there was none is no error; where versions are kept, they stay."""
    name, key = object_in(call.principal, bucket, key)
    async with s3_of(call, name) as client:
        answer = await client.delete_object(Bucket=name, Key=key)
    return Deleted(
        bucket=name, key=key, s3_uri=f"s3://{name}/{key}", version_id=answer.get("VersionId")
    )
