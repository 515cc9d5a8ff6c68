"""Pages of S3's listings, parsed in slices.

Botocore parses a page twice, each time at once: 12 ms of the event loop for 250 keys.
docs/decisions/0018 has the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from authsvc.common.aws_isolation import timestamp
from mcp_adapter.tools.slices import Slices

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

CHUNK_BYTES = 8 * 1024
"""What is parsed in one step."""

_TEXTS: dict[str, Callable[[str], Any]] = {
    "Key": str,
    "Size": int,
    "LastModified": timestamp,
    "ETag": str,
    "StorageClass": str,
    "ChecksumType": str,
    "ID": str,
    "DisplayName": str,
    "IsRestoreInProgress": lambda text: text == "true",
    "RestoreExpiryDate": timestamp,
}
"""What is text in an object or in one of its structures, and how it is read."""

_STRUCTURES = {"Owner", "RestoreStatus"}
_LIST = "ChecksumAlgorithm"


def parse_in_slices(client: S3Client, slices: Slices) -> None:
    """Have a client parse its listings so.

    Args:
        client: makes the requests.
        slices: shared by all that hold up the same event loop.
    """
    # Botocore's own handler for S3 parses the whole page. Handlers of a wildcard come before it.
    handler = partial(_parse, slices)
    client.meta.events.register("before-parse.*.ListObjectsV2", handler)  # type: ignore[arg-type] # it is awaited


async def _parse(
    slices: Slices,
    response_dict: dict[str, Any],
    customized_response_dict: dict[str, Any],
    **_: object,
) -> None:
    """Take the objects out of a response; what is left is for botocore, as are errors."""
    body: bytes = response_dict["body"]
    parser = ElementTree.XMLParser(encoding="utf-8")  # noqa: S314 - as botocore parses it
    chunks = (body[start : start + CHUNK_BYTES] for start in range(0, len(body), CHUNK_BYTES))
    try:
        await slices.collected(map(parser.feed, chunks))
        root = parser.close()
        if _name(root) != "ListBucketResult":
            return
        objects = (_object(node) for node in root if _name(node) == "Contents")
        contents = await slices.collected(objects)
        root[:] = [node for node in root if _name(node) != "Contents"]
        # A carriage return that is there came by reference; as it is, it would be read as a line
        # feed.
        rest = ElementTree.tostring(root).replace(b"\r", b"&#13;")
    except (ElementTree.ParseError, ValueError, RuntimeError):
        # RuntimeError: of ``_object``, or elements are too deep in each other to be written.
        return
    if contents:
        response_dict["body"] = rest
        customized_response_dict["Contents"] = contents


def _object(node: ElementTree.Element) -> dict[str, Any]:
    """
    Raises:
        ValueError: a size or a time is none.
        RuntimeError: a time is beyond the calendar.
    """
    found: dict[str, Any] = {}
    for member in node:
        name = _name(member)
        if (read := _TEXTS.get(name)) is not None:
            found[name] = read(member.text or "")
        elif name in _STRUCTURES:
            found[name] = _object(member)
        elif name == _LIST:
            found.setdefault(name, []).append(member.text or "")
    return found


def _name(node: ElementTree.Element) -> str:
    """The name of an element, without its namespace."""
    return node.tag.rpartition("}")[2]
