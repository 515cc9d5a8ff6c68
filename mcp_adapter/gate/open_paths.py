"""Paths that need no token. They are compared literally, so ambiguous ones are rejected."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from authsvc.common import arguments


def checked(open_paths: object, *, resource: str, taken: Collection[str]) -> tuple[str, ...]:
    """The paths whose requests are passed to the app unchecked.

    Args:
        open_paths: what the gate was given.
        resource: canonical URI of the server.
        taken: paths that the gate serves by itself.

    Raises:
        TypeError: it is a string where several are meant.
        ValueError: one of them is no plain path, is the endpoint's, or is served by the gate.
    """
    paths = arguments.texts("open_paths", open_paths)
    endpoint = urlsplit(resource).path.rstrip("/")
    for path in paths:
        if path.rstrip("/").lower() == endpoint.lower():
            raise ValueError(
                f"open_paths: {endpoint or '/'} is the MCP endpoint, which needs the gate"
            )
        if path in taken:
            raise ValueError(f"open_paths: {path} is served by the gate itself: leave it out")
        if not _is_plain(path):
            raise ValueError(
                f"open_paths: {path!r} is no path like /healthz: from the root, as it is after "
                "decoding, without //, /./, /../, %, ?, # and *"
            )
    return paths


def _is_plain(path: str) -> bool:
    """Whether no parser reads it as another path."""
    segments = path.split("/")
    return (
        path.startswith("/")
        and "" not in segments[1:-1]
        and not {".", ".."} & set(segments)
        and not set("%?#*\\") & set(path)
        and path.isprintable()
        and " " not in path
    )
