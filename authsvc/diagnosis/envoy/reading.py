"""Envoy's configuration from a file or from a running Envoy, bounded in size."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from authsvc.common.extras import MissingExtraError
from authsvc.common.file_faults import file_fault
from authsvc.net.urls import shown_url

MAX_DUMP_BYTES = 64 * 1024 * 1024
"""Longest JSON that is read. A dump of a mesh has tens of megabytes."""

MAX_YAML_BYTES = 2 * 1024 * 1024
"""Longest YAML that is read: it takes a hundred times as long as JSON."""

MAX_NODES = 1_000_000
"""Values in a YAML document, where an alias counts as what it stands for."""

_CONFIG_DUMP = "/config_dump"


async def fetched(url: str) -> bytes:
    """The dump of a running Envoy.

    Args:
        url: of its admin listener, or of the dump itself.

    Raises:
        OSError: there is none, or one that is too long.
    """
    if urlsplit(url).path in {"", "/"}:
        url = url.rstrip("/") + _CONFIG_DUMP
    shown, content = shown_url(url), bytearray()
    try:
        async with (
            httpx2.AsyncClient(trust_env=False, timeout=None) as http,
            http.stream("GET", url) as answer,
        ):
            if answer.status_code != httpx2.codes.OK:
                raise OSError(f"{shown} answers {answer.status_code}")
            async for part in answer.aiter_bytes():
                content += part
                if len(content) > MAX_DUMP_BYTES:
                    raise OSError(f"{shown} is longer than {MAX_DUMP_BYTES} bytes")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise OSError(f"{shown}: {type(error).__name__}") from None
    return bytes(content)


def read(path: Path) -> bytes:
    """A file's content.

    Raises:
        OSError: it cannot be read, or is too long.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_DUMP_BYTES + 1)
    except OSError as error:
        raise OSError(file_fault(path, error)) from None
    if len(content) > MAX_DUMP_BYTES:
        raise OSError(f"{path} is longer than {MAX_DUMP_BYTES} bytes")
    return content


def parsed(content: bytes) -> object:
    """The document in JSON or YAML.

    Raises:
        ValueError: it is neither, or too large. The message continues a sentence that begins with
            "it", and quotes nothing of the document: it may hold secrets.
    """
    try:
        if content.lstrip()[:1] == b"{":
            return _json_or_yaml(content)
        return _yaml(content)
    except RecursionError:
        raise ValueError("is nested too deep") from None


def _json_or_yaml(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError as error:
        # YAML may begin with a brace, too.
        if len(content) > MAX_YAML_BYTES:
            raise ValueError(f"is no JSON ({_where(error)})") from None
        return _yaml(content)


def _where(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}, column {error.colno}"
    return "no UTF-8"


def _yaml(content: bytes) -> object:
    try:
        import yaml  # type: ignore[import-untyped] # it has no stubs
    except ModuleNotFoundError:
        missing = MissingExtraError("YAML", "envoy", "yaml")
        raise ValueError(f"is not JSON, and {missing}") from None
    if len(content) > MAX_YAML_BYTES:
        raise ValueError(f"is YAML of more than {MAX_YAML_BYTES} bytes")
    try:
        document: object = yaml.safe_load(content)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ValueError(f"is neither JSON nor one document of YAML{where}") from None
    except (yaml.YAMLError, ValueError, OverflowError):
        # ValueError: of a date or a number that there is not.
        raise ValueError("is neither JSON nor one document of YAML") from None
    if _size(document, {}) > MAX_NODES:
        raise ValueError(f"has more than {MAX_NODES} values, aliases written out")
    return document


def _size(node: object, sizes: dict[int, int]) -> int:
    """How many values a document has where aliases are written out; without bound for a circle."""
    if not isinstance(node, dict | list):
        return 1
    if id(node) not in sizes:
        sizes[id(node)] = MAX_NODES + 1  # what it counts for within itself
        inner = node.values() if isinstance(node, dict) else node
        sizes[id(node)] = 1 + sum(_size(it, sizes) for it in inner)
    return sizes[id(node)]
