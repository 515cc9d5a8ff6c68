"""Access to S3: arguments that name a bucket and a key, the caller's right to them, S3's errors.

A bucket that the claims do not name gets the same answer whether it exists or not: S3 is not asked.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from authsvc.domain.buckets import located
from authsvc.domain.resolution import AwsCredentials, Principal
from mcp_adapter.tools.call import Call, ToolError
from mcp_adapter.tools.s3 import S3Clients

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

MAX_KEY_BYTES = 1024
"""Longest key that S3 has, in bytes of UTF-8."""

DOT_SEGMENTS = frozenset({".", ".."})
"""Segments that normalisation removes from a URL's path."""

_BUCKET = re.compile(r"[A-Za-z0-9._-]{3,255}")
"""Names of buckets, those that S3 gave until 2018 among them."""

_SHOWN = 80
"""Characters of a client's own text that an error repeats."""

BucketArgument = Annotated[
    str,
    Field(
        max_length=2048,
        description="A bucket's name, or an s3:// URI with or without a path.",
        # Proxies can route on it (MCP 2026-07-28, "Custom Headers from Tool Parameters").
        json_schema_extra={"x-mcp-header": "Bucket"},
    ),
]
KeyArgument = Annotated[
    str,
    Field(
        max_length=MAX_KEY_BYTES,
        description="The object's key, exactly; left out where bucket is a URI with the path.",
    ),
]
PrefixArgument = Annotated[
    str,
    Field(
        max_length=MAX_KEY_BYTES,
        description="Only keys that begin with this; left out where bucket is a URI with a path.",
    ),
]


def prefix_in(principal: Principal, bucket: str, prefix: str) -> tuple[str, str]:
    """The bucket and the prefix that arguments name.

    Raises:
        ToolError: as ``authorized``; or the prefix is given twice, or too long.
    """
    name, path = authorized(principal, bucket)
    return name, _one_of(path, prefix, "prefix")


def object_in(principal: Principal, bucket: str, key: str) -> tuple[str, str]:
    """The bucket and the key that arguments name.

    Raises:
        ToolError: as ``authorized``; or the key is missing, given twice, too long, or leads out of
            its bucket once it is a path (RFC 3986 section 5.2.4).
    """
    name, path = authorized(principal, bucket)
    found = _one_of(path, key, "key")
    if not found:
        raise ToolError("key: is missing.")
    if DOT_SEGMENTS & set(found.split("/")):
        # The signed URL would be normalised to another object, even one of another bucket.
        raise ToolError("key: has . or .. between slashes, which programs remove from a URL.")
    return name, found


def authorized(principal: Principal, bucket: str) -> tuple[str, str]:
    """The bucket that an argument names, and the path behind it.

    Raises:
        ToolError: it names none, or one that the claims do not: the same whether it exists or not.
    """
    try:
        name, path = located(bucket)
    except ValueError:
        raise ToolError("bucket: not the name of a bucket.") from None
    if name in principal.buckets and not is_bucket_name(name):
        raise ToolError("bucket: not the name of a bucket.")
    if name not in principal.buckets:
        raise ToolError(
            f"Your token does not name the bucket {shown(name)}; discover_buckets lists those that "
            "it does."
        )
    return name, path


def is_bucket_name(name: str) -> bool:
    """Whether S3 could have a bucket of this name.

    S3 is asked for no other name: ``..`` is removed from a URL, an ARN names a host.
    """
    return _BUCKET.fullmatch(name) is not None


class S3Error(ToolError):
    """S3 answered with an error, or gave no valid answer.

    Attributes:
        code: of S3's error; empty without an answer.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


@asynccontextmanager
async def s3_of(call: Call, *buckets: str) -> AsyncIterator[S3Client]:
    """A client with the caller's own credentials; an error of S3 is an ``S3Error``.

    Args:
        call: whose caller.
        buckets: that it has to work for; none for all of the token's.

    Raises:
        ToolError: the caller has no credentials.
    """
    credentials = await call.aws_credentials(buckets=buckets)
    async with s3_with(call, credentials) as client:
        yield client


@asynccontextmanager
async def s3_with(call: Call, credentials: AwsCredentials) -> AsyncIterator[S3Client]:
    """A client with these credentials; an error of S3 is an ``S3Error``."""
    with s3_errors(call.s3):
        async with call.s3.client(credentials) as client:
            yield client


@contextmanager
def s3_errors(clients: S3Clients) -> Iterator[None]:
    """Errors of S3 become errors of the tool with their cause, never an empty answer.

    S3's own message is dropped: it may name the account, the role, or what the request held.
    """
    try:
        yield
    except Exception as error:
        code = clients.error_code(error)
        if code is None:
            raise
        message = (
            error_message(code)
            if code
            else (f"S3 is unreachable, or its answer is not valid: {type(error).__name__}.")
        )
        raise S3Error(message, code) from None


def error_message(code: str) -> str:
    """The text of a tool's error for an error code of S3."""
    return f"S3 answered {code}" + (f": {_ADVICE[code]}" if code in _ADVICE else ".")


_DENIED = (
    "your credentials do not permit it. The role behind them allows less than your token names, "
    "or the object does not exist."
)
_GONE = "there is no such object."
_CHANGED = "the object is not as the call expects it to be."
_ADVICE = {
    "403": _DENIED,
    "AccessDenied": _DENIED,
    "404": _GONE,
    "NoSuchKey": _GONE,
    "NoSuchBucket": "the token names the bucket, but it does not exist.",
    "412": _CHANGED,
    "PreconditionFailed": _CHANGED,
    "ExpiredToken": "the credentials have expired; call again with a fresh token.",
    "InvalidRange": "start is beyond the end of the object.",
}


def shown(text: str) -> str:
    """A client's own text in an error: quoted, escaped to ASCII, and cut."""
    return ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def _one_of(path: str, argument: str, name: str) -> str:
    """The path or the argument; both together are an error, as they could differ."""
    if path and argument:
        raise ToolError(f"{name}: bucket has a path already; give one of the two.")
    found = path or argument
    if len(found.encode()) > MAX_KEY_BYTES:
        raise ToolError(f"{name}: is longer than {MAX_KEY_BYTES} bytes.")
    return found
