"""An observer of the gate: it learns the method of each message without parsing it again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import Scope

from authsvc.common.unexpected import log_unexpected
from authsvc.http_auth import messages, refusals
from authsvc.http_auth.read_only import ReadOnlyParams

CallObserver = Callable[[Scope, str, Mapping[str, Any]], None]
"""Called with ``(scope, method, params)`` of each request and notification that a POST brings,
before it is authorised. The scope is the request's, without its Authorization header."""

log = logging.getLogger(__name__)


def observed(observer: CallObserver, scope: Scope, message: messages.Message) -> None:
    """Call ``observer`` with each call of a message. It cannot change their params.

    Raises:
        Refusal: 500. ``observer`` has failed; the log says by which exception.
    """
    headers = [header for header in scope["headers"] if header[0].lower() != b"authorization"]
    scope = {**scope, "headers": headers}
    try:
        for method, params in messages.calls(message):
            observer(scope, method, ReadOnlyParams(params))
    except Exception as error:  # noqa: BLE001 - its message may quote params
        log_unexpected(log, "the observer failed", error)
        raise refusals.internal_error() from None
