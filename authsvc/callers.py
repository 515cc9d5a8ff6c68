"""Which MCP servers may call, and for which resources."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from authsvc.errors import AuthError, Reason


def check_resource(resource: str) -> None:
    """Refuse what is not a canonical resource URI.

    Canonical: absolute, http or https, no fragment (RFC 8707 section 2), scheme and host in lower
    case (RFC 3986 section 6.2.2.1), visible ASCII. One resource then has one spelling.

    Raises:
        AuthError: RESOURCE_INVALID.
    """
    try:
        parts = urlsplit(resource)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise AuthError(Reason.RESOURCE_INVALID) from None
    authority = f"{parts.scheme}://{parts.netloc}"
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or not port_is_valid
        or "@" in parts.netloc
        or "#" in resource
        or not resource.startswith(authority)
        or authority != authority.lower()
        or not all("!" <= character <= "~" for character in resource)
    ):
        raise AuthError(Reason.RESOURCE_INVALID)


class Callers:
    """The registered callers. For now one, whatever can reach the loopback or Unix socket.

    Args:
        resources: the resources that it may resolve for.
    """

    def __init__(self, resources: Iterable[str]) -> None:
        self._resources = frozenset(resources)

    def authorize(self, resource: str) -> None:
        """Check that the caller may act for ``resource``.

        Raises:
            AuthError: RESOURCE_INVALID, or CALLER_NOT_ALLOWED.
        """
        if resource in self._resources:
            return
        check_resource(resource)
        raise AuthError(Reason.CALLER_NOT_ALLOWED, f"resource {resource[:200]!r} is not registered")
