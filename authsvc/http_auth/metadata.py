"""Protected resource metadata (RFC 9728): names the issuers of tokens for an MCP server."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote, urlsplit, urlunsplit

from authsvc.common import arguments, formats

WELL_KNOWN_PATH = "/.well-known/oauth-protected-resource"

METADATA_HEADERS = {"Cache-Control": "public, max-age=300"}


def metadata_url(resource: str) -> str:
    """Where a resource's metadata is: the well-known path put before its own (section 3.1)."""
    parts = urlsplit(resource)
    path = WELL_KNOWN_PATH + parts.path.rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def metadata_path(resource: str) -> str:
    """The path of ``metadata_url``, as a server sees it: decoded."""
    return unquote(urlsplit(metadata_url(resource)).path)


def metadata_paths(resource: str) -> list[str]:
    """Where the document is served: at the root, and at the path that belongs to ``resource``.

    Each with a slash at its end, too: clients put the well-known path before the URL that they
    have.
    """
    paths = dict.fromkeys([WELL_KNOWN_PATH, metadata_path(resource)])
    return [each for path in paths for each in (path, f"{path}/")]


def is_metadata_path(path: str) -> bool:
    """Whether clients look for the metadata of some resource at a path, decoded."""
    return path == WELL_KNOWN_PATH or path.startswith(f"{WELL_KNOWN_PATH}/")


def metadata_document(
    resource: str,
    *,
    authorization_servers: Sequence[str],
    scopes: Sequence[str],
    name: str = "",
) -> dict[str, object]:
    """The document.

    Args:
        resource: canonical URI of the server.
        authorization_servers: issuers of tokens for it.
        scopes: what tokens for it may be asked to hold.
        name: the server's name for people; empty for none.

    Raises:
        TypeError: a string stands where several are meant.
        ValueError: ``resource`` is not canonical, an authorization server is no issuer's URL, a
            scope is none, or ``name`` holds control characters.
    """
    resource = arguments.resource("resource", resource)
    arguments.line("name", name)
    issuers = arguments.each("authorization_servers", authorization_servers, formats.check_issuer)
    supported = arguments.scopes("scopes", scopes)
    document: dict[str, object] = {
        "resource": resource,
        "authorization_servers": list(issuers),
        "bearer_methods_supported": ["header"],
    }
    if name:
        document["resource_name"] = name
    if supported:
        document["scopes_supported"] = list(supported)
    return document
