"""Into the storage and out again: arguments that name a place, who may go there, what S3 refuses.

Nothing here asks S3 whether a bucket exists: one that the claims do not name gets one answer.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from pydantic import Field

from authsvc.domain.buckets import located
from authsvc.domain.resolution import Principal
from mcp_adapter.tools.call import Call, ToolError

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

MAX_KEY_BYTES = 1024
"""Longest key that S3 has, in bytes of UTF-8."""

DOT_SEGMENTS = frozenset({".", ".."})
"""What a URL's path has not got any more once it is normalised."""

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
        ToolError: as ``authorized``; or the prefix is said twice, or too long.
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
        # Signed as it is, it would be asked for as something else: another bucket's object, even.
        raise ToolError("key: has . or .. between slashes, which programs take out of a URL.")
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
    """Whether S3 could have a bucket of this name, whatever the claims say.

    No other name is asked for: ``..`` would be taken out of a URL, an ARN names a host.
    """
    return _BUCKET.fullmatch(name) is not None


@asynccontextmanager
async def s3_of(call: Call) -> AsyncIterator[S3Client]:
    """A client with the call's own credentials; what S3 refuses is a ``ToolError``."""
    credentials = call.aws_credentials()
    with s3_errors():
        async with call.s3.client(credentials) as client:
            yield client


@contextmanager
def s3_errors() -> Iterator[None]:
    """What S3 refuses is an error with its cause, never an empty answer.

    S3's own message stays here: it may name the account, the role, or what the request held.
    """
    try:
        yield
    except ClientError as error:
        raise ToolError(refused(error_code(error))) from None
    except (BotoCoreError, ResponseParserError) as error:
        raise ToolError(f"S3 could not be asked: {type(error).__name__}.") from None


def error_code(error: ClientError) -> str:
    """The code that S3 gave; the HTTP status where an answer has no body."""
    code = error.response.get("Error", {}).get("Code", "")
    return code if re.fullmatch(r"[A-Za-z0-9.]{1,64}", code) else "unknown"


def refused(code: str) -> str:
    """What to tell a client about an error of S3, by its code."""
    return f"S3 refused: {code}" + (f": {_ADVICE[code]}" if code in _ADVICE else ".")


_DENIED = (
    "your credentials do not reach that far; the role behind them allows less than your token "
    "names, or the object is not there."
)
_GONE = "there is no such object."
_CHANGED = "the object is not as the call expects it to be."
_ADVICE = {
    "403": _DENIED,
    "AccessDenied": _DENIED,
    "404": _GONE,
    "NoSuchKey": _GONE,
    "NoSuchBucket": "the token names the bucket, but it is not there.",
    "412": _CHANGED,
    "PreconditionFailed": _CHANGED,
    "ExpiredToken": "the credentials have expired; call again with a fresh token.",
    "InvalidRange": "start is behind the end of the object.",
}


def shown(text: str) -> str:
    """A client's own text in an error: quoted, escaped to ASCII, and cut."""
    return ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def _one_of(path: str, argument: str, name: str) -> str:
    """One spelling of a place: two could differ, and whichever won, somebody would be surprised."""
    if path and argument:
        raise ToolError(f"{name}: bucket has a path already; give one of the two.")
    found = path or argument
    if len(found.encode()) > MAX_KEY_BYTES:
        raise ToolError(f"{name}: is longer than {MAX_KEY_BYTES} bytes.")
    return found
