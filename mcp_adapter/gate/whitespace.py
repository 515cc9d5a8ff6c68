"""The headers of a scope in one form for all HTTP servers."""

from __future__ import annotations

from starlette.types import Scope

from authsvc.http_auth.headers import normalized


def trimmed(scope: Scope) -> Scope:
    """The scope with its headers as ``normalized`` has them."""
    headers = normalized(scope["headers"])
    return scope if headers is scope["headers"] else {**scope, "headers": headers}
