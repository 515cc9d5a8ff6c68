"""One object: what it is, what is in it, a link to it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated
from urllib.parse import parse_qs, urlsplit

from mcp_types import ResourceLink
from pydantic import BaseModel, Field

from authsvc.domain.resolution import AwsCredentials
from mcp_adapter.tools.call import Call, ToolError
from mcp_adapter.tools.declaration import LinkingAnswer, tool
from mcp_adapter.tools.decoding import SHORTEST_PIECE, Encoding, decoded, detected
from mcp_adapter.tools.storage import (
    BucketArgument,
    KeyArgument,
    S3Error,
    object_in,
    s3_errors,
    s3_of,
    s3_with,
)

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import GetObjectOutputTypeDef, GetObjectRequestTypeDef

MAX_TEXT_BYTES = 1024 * 1024
"""Bytes that one call reads."""

MAX_LINK_SECONDS = 12 * 60 * 60

LINK_MARGIN_SECONDS = 1
"""How much earlier than the credentials a link ends. Its time of signing has whole seconds."""


class ObjectInfo(BaseModel):
    """An object's metadata, without its content."""

    bucket: str
    key: str
    s3_uri: str
    size: int = Field(description="In bytes.")
    last_modified: datetime
    etag: str
    content_type: str
    content_encoding: str = Field(description="Such as gzip; empty where there is none.")
    storage_class: str
    version_id: str | None
    metadata: dict[str, str] = Field(description="User-defined metadata.")


class ObjectText(BaseModel):
    """A piece of an object, as text."""

    bucket: str
    key: str
    text: str
    encoding: Encoding = Field(description="What text was read as; base64 for what is not text.")
    content_type: str
    etag: str = Field(description="Pass it with the next start, so that pieces fit together.")
    start: int = Field(description="The piece's first byte in the object.")
    end: int = Field(description="Behind its last byte.")
    size: int = Field(description="Of the whole object, in bytes.")
    next_start: int | None = Field(description="Where the next piece begins; None at the end.")


class ObjectLink(LinkingAnswer):
    """A link that reads the object without a token, until it expires."""

    bucket: str
    key: str
    url: str
    expires_at: datetime

    def resource_links(self) -> list[ResourceLink]:
        """The link itself."""
        until = f"Readable without a token until {self.expires_at:%Y-%m-%dT%H:%M:%SZ}."
        return [ResourceLink(name=self.key, uri=self.url, description=until)]


@tool(
    title="Describe an object",
    scopes=("objects.read",),
    permissions=("s3:GetObject",),
    audited_arguments=("bucket", "key"),
)
async def bucket_object_info(
    call: Call, bucket: BucketArgument, key: KeyArgument = ""
) -> ObjectInfo:
    """Show an object's size, type, time of change and user-defined metadata."""
    name, key = object_in(call.principal, bucket, key)
    async with s3_of(call, name) as client:
        head = await client.head_object(Bucket=name, Key=key)
    return ObjectInfo(
        bucket=name,
        key=key,
        s3_uri=f"s3://{name}/{key}",
        size=head["ContentLength"],
        last_modified=head["LastModified"],
        etag=head["ETag"].strip('"'),
        content_type=head.get("ContentType", ""),
        content_encoding=head.get("ContentEncoding", ""),
        storage_class=head.get("StorageClass", "STANDARD"),
        version_id=head.get("VersionId"),
        metadata=dict(sorted(head.get("Metadata", {}).items())),
    )


@tool(
    title="Read an object's text",
    scopes=("objects.read",),
    permissions=("s3:GetObject",),
    audited_arguments=("bucket", "key"),
)
async def bucket_object_text(
    call: Call,
    bucket: BucketArgument,
    key: KeyArgument = "",
    start: Annotated[int, Field(ge=0, description="The first byte to read.")] = 0,
    max_bytes: Annotated[
        int, Field(ge=SHORTEST_PIECE, le=MAX_TEXT_BYTES, description="How many bytes at most.")
    ] = 64 * 1024,
    encoding: Annotated[
        Encoding | None,
        Field(description="What to read it as, such as the encoding of the piece before."),
    ] = None,
    etag: Annotated[
        str | None,
        Field(
            pattern=r"^[!#-~]{1,256}$",
            description="Fail unless the object is still the one of this etag.",
        ),
    ] = None,
) -> ObjectText:
    """Read an object, or a piece of it, as text.

    The encoding is that of a byte order mark or the object's content type, and UTF-8 otherwise.
    What is not text comes as base64. A piece never ends within a character: continue at next_start.
    """
    name, key = object_in(call.principal, bucket, key)
    request: GetObjectRequestTypeDef = {
        "Bucket": name,
        "Key": key,
        "Range": f"bytes={start}-{start + max_bytes - 1}",
    }
    if etag is not None:
        request["IfMatch"] = f'"{etag}"'
    async with s3_of(call, name) as client:
        answer = await _ranged(call, client, request, start)
        data = b""
        async with answer["Body"] as body:
            # One read brings what has arrived.
            while len(data) < max_bytes and (more := await body.read(max_bytes - len(data))):
                data += more
    size = _size(answer, start)
    content_type = answer.get("ContentType", "")
    piece = decoded(
        data,
        start=start,
        is_end=start + len(data) >= size,
        encoding=encoding or detected(data, start=start, content_type=content_type),
    )
    return ObjectText(
        bucket=name,
        key=key,
        text=piece.text,
        encoding=piece.encoding,
        content_type=content_type,
        etag=answer["ETag"].strip('"'),
        start=piece.start,
        end=piece.end,
        size=size,
        next_start=piece.end if piece.end < size else None,
    )


@tool(
    title="Link to an object",
    scopes=("objects.read",),
    permissions=("s3:GetObject",),
    audited_arguments=("bucket", "key"),
)
async def bucket_object_link(
    call: Call,
    bucket: BucketArgument,
    key: KeyArgument = "",
    expires_in_seconds: Annotated[
        int, Field(ge=1, le=MAX_LINK_SECONDS, description="How long it is to work, at most.")
    ] = 900,
) -> ObjectLink:
    """Make a link that reads an object without a token, for a browser or another program.

    It is signed with your own credentials and ends with them or with your token, if that is sooner
    than asked. Any client that has it can use it. Whether the object exists is not checked.
    """
    name, key = object_in(call.principal, bucket, key)
    credentials = await call.aws_credentials(buckets=[name])
    async with s3_with(call, credentials) as client:
        # Once there is a client, which may take a while: the link begins when it is signed.
        seconds = min(expires_in_seconds, _remaining_seconds(call, credentials))
        url = await client.generate_presigned_url(
            "get_object", Params={"Bucket": name, "Key": key}, ExpiresIn=seconds
        )
    return ObjectLink(bucket=name, key=key, url=url, expires_at=_end_of(url))


def _remaining_seconds(call: Call, credentials: AwsCredentials) -> int:
    """How long a link may work: it ends before the credentials, and before the token.

    Raises:
        ToolError: not even for a second.
    """
    ends = (credentials.expire_time, call.principal.expire_time)
    end = min(filter(None, ends), default=math.inf)
    remaining = min(end - call.clock() - LINK_MARGIN_SECONDS, MAX_LINK_SECONDS)
    if remaining < 1:
        raise ToolError("Your credentials end too soon for a link; call again with a fresh token.")
    return math.floor(remaining)


def _end_of(url: str) -> datetime:
    """When a signed link ends, by the link itself."""
    query = parse_qs(urlsplit(url).query)
    signed = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return signed + timedelta(seconds=int(query["X-Amz-Expires"][0]))


async def _ranged(
    call: Call, client: S3Client, request: GetObjectRequestTypeDef, start: int
) -> GetObjectOutputTypeDef:
    try:
        with s3_errors(call.s3):
            return await client.get_object(**request)
    except S3Error as error:
        if start or error.code != "InvalidRange":
            raise
    # An empty object has no first byte that a range could begin with.
    request.pop("Range")
    return await client.get_object(**request)


def _size(answer: GetObjectOutputTypeDef, start: int) -> int:
    """Of the whole object, in bytes."""
    if content_range := answer.get("ContentRange"):
        return int(content_range.rpartition("/")[2])
    if start:
        raise ToolError("The storage answered with another piece than was asked for.")
    return answer["ContentLength"]
