"""What is in a bucket: page by page, or by a pattern."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field

from mcp_adapter.tools.call import Call, ToolError
from mcp_adapter.tools.declaration import tool
from mcp_adapter.tools.storage import (
    MAX_KEY_BYTES,
    BucketArgument,
    PrefixArgument,
    prefix_in,
    s3_of,
)

if TYPE_CHECKING:
    from types_aiobotocore_s3.type_defs import ListObjectsV2RequestTypeDef, ObjectTypeDef

MAX_RESULTS = 1000
"""Objects in one answer, at most."""

PAGE_KEYS = 250
"""Keys in a page of S3's, at most. The event loop is blocked while a page is parsed, so pages are
smaller than S3's 1,000."""

MAX_PAGES = 80
"""Pages that one call reads: S3 may answer with few keys, or none, where there is more."""

MAX_WILDCARDS = 32
MAX_WILD_CHARACTERS = 256
"""Of a pattern, from its first wildcard on: each of its characters may be tried at each of a key's.
"""

_WILDCARD = re.compile(r"[*?[]")

ContinuationToken = Annotated[
    str | None, Field(max_length=4096, description="next_token of the page before.")
]


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


class Found(Objects):
    """A page of what a search has found, by key."""

    pattern: str
    scanned: int = Field(description="Keys that were compared for this page.")


@tool(
    title="List objects",
    scopes=("objects.read",),
    permissions=("s3:ListBucket",),
    audited_arguments=("bucket", "prefix"),
)
async def bucket_objects_list(
    call: Call,
    bucket: BucketArgument,
    prefix: PrefixArgument = "",
    max_keys: Annotated[int, Field(ge=1, le=MAX_RESULTS, description="How many at most.")] = 100,
    continuation_token: ContinuationToken = None,
) -> Objects:
    """List the objects in one of your buckets, by key, a page at a time."""
    name, prefix = prefix_in(call.principal, bucket, prefix)
    request: ListObjectsV2RequestTypeDef = {"Bucket": name, "Prefix": prefix}
    token, objects = continuation_token, list[Object]()
    async with s3_of(call, name) as client:
        for _ in range(MAX_PAGES):
            if token:
                request["ContinuationToken"] = token
            request["MaxKeys"] = min(max_keys - len(objects), PAGE_KEYS)
            page = await client.list_objects_v2(**request)
            objects += _objects(name, page.get("Contents", []))
            token = page.get("NextContinuationToken")
            if not page["IsTruncated"] or not token or len(objects) >= max_keys:
                break
    return Objects(
        bucket=name,
        prefix=prefix,
        objects=objects,
        truncated=page["IsTruncated"],
        next_token=token,
    )


@tool(
    title="Search objects",
    scopes=("objects.read",),
    permissions=("s3:ListBucket",),
    audited_arguments=("bucket", "prefix"),
)
async def bucket_objects_search(
    call: Call,
    bucket: BucketArgument,
    pattern: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_KEY_BYTES,
            description="Of the whole key: * is any text, slashes too; ? one character; [abc] one "
            "of these, [!abc] none of them. Case counts.",
        ),
    ] = "*",
    prefix: PrefixArgument = "",
    max_results: Annotated[int, Field(ge=1, le=MAX_RESULTS, description="How many at most.")] = 100,
    continuation_token: ContinuationToken = None,
) -> Found:
    """Find objects whose keys match a pattern, such as reports/*.csv, a page at a time.

    One call compares 20,000 keys at most, so a page may be empty and yet not be the last: continue
    while there is a next_token. A prefix, or a pattern that begins with one, leaves out all other
    keys unseen. The search reports progress and can be cancelled.
    """
    name, prefix = prefix_in(call.principal, bucket, prefix)
    after = _key_of(continuation_token) if continuation_token else ""
    scan = _Scan(_matcher(pattern), max_results, after)
    request: ListObjectsV2RequestTypeDef = {
        "Bucket": name,
        "Prefix": _narrower(prefix, pattern),
        "MaxKeys": PAGE_KEYS,
    }
    async with s3_of(call, name) as client:
        for _ in range(MAX_PAGES):
            if scan.last:
                request["StartAfter"] = scan.last
            page = await client.list_objects_v2(**request)
            contents = page.get("Contents", [])
            compared = await call.s3.slices.collected(scan.keys(contents))
            is_last = len(compared) == len(contents) and not page["IsTruncated"]
            progress = f"{len(scan.found)} found in {scan.scanned} keys"
            await call.report(scan.scanned, message=progress)
            if is_last or scan.is_full:
                break
    return Found(
        bucket=name,
        prefix=prefix,
        pattern=pattern,
        objects=_objects(name, scan.found),
        scanned=scan.scanned,
        truncated=not is_last,
        next_token=None if is_last else _token_of(scan.last),
    )


def _matcher(pattern: str) -> re.Pattern[str]:
    """
    Raises:
        ToolError: it would take too long.
    """
    head, *wildcards = re.split(_WILDCARD, pattern)
    if len(wildcards) > MAX_WILDCARDS or len(pattern) - len(head) > MAX_WILD_CHARACTERS:
        raise ToolError(
            f"pattern: has more than {MAX_WILDCARDS} wildcards, or more than "
            f"{MAX_WILD_CHARACTERS} characters from the first of them on."
        )
    return re.compile(fnmatch.translate(pattern))


@dataclass
class _Scan:
    """A walk over keys in order, which can stop after any of them.

    Attributes:
        matcher: of whole keys.
        wanted: how many are enough.
        last: the last key that was compared.
        scanned: how many were compared.
        found: those that match.
    """

    matcher: re.Pattern[str]
    wanted: int
    last: str
    scanned: int = 0
    found: list[ObjectTypeDef] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        """Whether enough were found."""
        return len(self.found) >= self.wanted

    def keys(self, page: Iterable[ObjectTypeDef]) -> Iterator[str]:
        """Compare the keys of a page one by one, until enough are found."""
        for item in page:
            if self.is_full:
                return
            self.scanned, self.last = self.scanned + 1, item["Key"]
            if self.matcher.match(self.last):
                self.found.append(item)
            yield self.last


def _narrower(prefix: str, pattern: str) -> str:
    """The longest prefix that S3 can be asked for and that leaves nothing out."""
    literal = re.split(_WILDCARD, pattern, maxsplit=1)[0]
    return literal if literal.startswith(prefix) else prefix


def _objects(bucket: str, items: Iterable[ObjectTypeDef]) -> list[Object]:
    return [
        Object(
            key=item["Key"],
            s3_uri=f"s3://{bucket}/{item['Key']}",
            size=item["Size"],
            last_modified=item["LastModified"],
            etag=item["ETag"].strip('"'),
            storage_class=item.get("StorageClass", "STANDARD"),
        )
        for item in items
    ]


def _token_of(key: str) -> str:
    """A search continues after a key, so neither S3 nor this server keeps its state."""
    return base64.urlsafe_b64encode(key.encode()).decode()


def _key_of(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise ToolError("continuation_token: is not the next_token of a search.") from None
