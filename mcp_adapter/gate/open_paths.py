"""Paths that need no token. They are compared literally, so ambiguous ones are rejected."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Scope

from authsvc.common import arguments
from authsvc.http_auth.headers import SESSION_ID


class OpenPaths:
    """What serves the paths that need no token.

    An open path is relative to where the app is mounted, which is what the app routes by: below
    ``/team``, an open ``/healthz`` is ``/team/healthz`` and nothing else. The metadata is found by
    the whole path, too: clients ask for it at the root, before the path of the mount (RFC 9728
    section 3.1).

    Args:
        app: serves the open paths.
        paths: they, as ``checked`` returns them.
        metadata: what serves each path of the metadata.
        resource: canonical URI of the server.
    """

    def __init__(
        self,
        app: ASGIApp,
        paths: Collection[str],
        *,
        metadata: Mapping[str, ASGIApp],
        resource: str,
    ) -> None:
        self._app = app
        self._paths = frozenset(paths)
        self._metadata = metadata
        self._endpoint = _endpoint_of(resource)

    def has(self, path: str) -> bool:
        """Whether a path needs no token."""
        return path in self._metadata or path in self._paths

    def may_be_endpoint(self, scope: Scope) -> bool:
        """Whether a path is the endpoint's, or its end: a mount or a proxy takes prefixes away."""
        relative = _comparable(path_in_mount(scope))
        return self._endpoint.endswith(relative) or _comparable(scope["path"]) == self._endpoint

    def app_for(self, scope: Scope) -> ASGIApp | None:
        """What serves a request without a token; None for what the gate decides on."""
        whole = scope["path"]
        relative = path_in_mount(scope)
        found = self._metadata.get(relative) or self._metadata.get(whole)
        if found is not None or relative not in self._paths:
            return found
        # Mounted at its own path, the endpoint is the root of the app. Where a proxy took the path
        # away, nothing shows that: then a call is a POST, and a stream's GET names a session.
        is_endpoint = _comparable(whole) == self._endpoint
        is_get = scope["method"] in {"GET", "HEAD"} and SESSION_ID not in Headers(scope=scope)
        may_be_call = relative == "/" and not is_get
        # Routed by its undecoded path, it would be another resource (RFC 3986 section 2.2).
        raw, _, _ = (scope.get("raw_path") or b"").partition(b"?")
        is_ambiguous = b"%2f" in raw.lower()
        return None if is_endpoint or may_be_call or is_ambiguous else self._app


def path_in_mount(scope: Scope) -> str:
    """The path that an app routes by: without ``root_path``, as Starlette takes it away.

    Servers and frameworks differ: in some the path includes ``root_path`` (ASGI), in some it does
    not.
    """
    path: str = scope["path"]
    if not (root := scope.get("root_path", "")):
        return path
    rest = path.removeprefix(root)
    return rest if path.startswith(root) and rest[:1] in {"", "/"} else path


def checked(open_paths: object, *, resource: str, taken: Collection[str]) -> tuple[str, ...]:
    """The paths whose requests are passed to the app unchecked.

    Args:
        open_paths: what the gate was given.
        resource: canonical URI of the server.
        taken: paths that the gate serves by itself.

    Raises:
        TypeError: it is a string where several are meant.
        ValueError: one of them is no plain path, can be the endpoint's, or is served by the gate.
    """
    paths = arguments.texts("open_paths", open_paths)
    endpoint = _endpoint_of(resource)
    for path in paths:
        # Behind a mount or a proxy that takes a prefix away, the endpoint has the rest of its path.
        # Its root may be open: ``OpenPaths`` sees by the request whether it is the endpoint.
        rest = _comparable(path)
        if rest == endpoint or (rest and endpoint.endswith(rest) and rest.startswith("/")):
            raise ValueError(
                f"open_paths: {endpoint or '/'} is the MCP endpoint, which needs the gate"
            )
        if path in taken:
            raise ValueError(f"open_paths: {path} is served by the gate itself: leave it out")
        if not _is_plain(path):
            raise ValueError(
                f"open_paths: {path!r} is no path like /healthz: from the root of the app, as it "
                "is after decoding, without //, /./, /../, %, ?, # and *"
            )
    return paths


def _endpoint_of(resource: str) -> str:
    """The path of the MCP endpoint, comparable."""
    return _comparable(unquote(urlsplit(resource).path))


def _comparable(path: str) -> str:
    return path.rstrip("/").lower()


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
