"""Lists of tools, prompts and resources, with what their caller may call alone.

It is no authorisation: each call is authorised as if there were no list.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from starlette.types import Scope

from authsvc.common.rarely import Rarely
from authsvc.common.unexpected import log_unexpected
from authsvc.domain.resolution import Principal
from authsvc.http_auth import messages, strict_json
from authsvc.http_auth.authorizer import Admitted
from authsvc.http_auth.messages import Message
from authsvc.http_auth.refusals import Refusal
from authsvc.http_auth.requirements import (
    Requirement,
    RequirementOf,
    asked_together,
    evaluated,
)

log = logging.getLogger(__name__)

LOG_INTERVAL_SECONDS = 60.0
"""From one log line with a cause to the next."""

MAX_ITEMS = 10_000
"""Items of one list, at most: the requirement is asked about each."""

_LISTS = {"tools/list", "prompts/list", "resources/list"}

_ITEMS = {
    "tools": ("tools/call", "name"),
    "prompts": ("prompts/get", "name"),
    "resources": ("resources/read", "uri"),
}
"""By the member of a result that is a list: the method that its items are for, and the parameter
that names one of them."""

_MAY_HOLD_LIST = re.compile(rb'"(?:%s)"|\\u00[4-7]|\0' % "|".join(_ITEMS).encode())
"""What JSON with such a member holds, also where a letter of it is escaped or takes two bytes. Most
messages are not parsed because of it."""

_HINTS = ("ttlMs", "cacheScope")
"""Members by which a result may be cached (MCP 2026-07-28 "Caching")."""

_NEGOTIATING = {
    b"accept-encoding",
    b"range",
    *(b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"),
}
"""Headers of a request that ask for another answer than a whole one in plain text."""

_EXTENSIONS = {
    "http.response.pathsend",
    "http.response.zerocopysend",
    "http.response.trailers",
}
"""Ways to answer that do not lead through ``FilteredResponse``."""


class UnreadableListError(Exception):
    """A response may hold a list, and cannot be filtered."""


class ListFilter:
    """Takes from lists what their caller may not call.

    Args:
        requirement: what a call needs. It is asked with the name alone, or with the URI.
        every_response: whether any response may hold a list. An app that keeps sessions matches
            answers to requests by the request's id: a client that uses an id twice can have a
            list sent as the answer to a call.
    """

    def __init__(self, requirement: RequirementOf, *, every_response: bool) -> None:
        self._requirement = requirement
        self._every_response = every_response
        self._log_lines = Rarely(LOG_INTERVAL_SECONDS)

    def concerns(self, message: Message | None) -> bool:
        """Whether the response to a message is filtered; None for a GET, which opens a stream."""
        return self._every_response or asks_for_list(message)

    def filtered(self, text: bytes, principal: Principal | None, *, has_hints: bool) -> bytes:
        """JSON of the app's, with its lists filtered; the same bytes where it holds none.

        Args:
            text: a message or a batch of them; anything else holds no list.
            principal: the caller; None without one.
            has_hints: whether results of this revision say how they may be cached.

        Raises:
            UnreadableListError: it may hold a list, and parsers may differ in how they read it; or
                the list is too long.
        """
        if not _MAY_HOLD_LIST.search(text):
            return text
        try:
            content = strict_json.decode(text)
        except Refusal as refusal:
            raise UnreadableListError(str(refusal)) from None
        entries = content if isinstance(content, list) else [content]
        results = [result for entry in entries if (result := _result_of(entry)) is not None]
        if not results:
            return text
        with asked_together():
            for result in results:
                self._filter(result, principal, has_hints=has_hints)
        return json.dumps(content, separators=(",", ":")).encode()

    def of_caller(self, admitted: Admitted) -> Callable[[bytes], bytes]:
        """``filtered`` for the caller of a request."""
        principal = admitted.resolution.principal
        has_hints = not admitted.request.in_session_era
        return partial(self.filtered, principal=principal, has_hints=has_hints)

    def report(self, error: UnreadableListError) -> None:
        """Log that a response was replaced by an error."""
        if self._log_lines.may_pass(UnreadableListError):
            log.error("a response is not sent, because its lists cannot be filtered: %s", error)

    def _filter(
        self, result: dict[str, Any], principal: Principal | None, *, has_hints: bool
    ) -> None:
        for member in _ITEMS.keys() & result.keys():
            items = result[member]
            if not isinstance(items, list):
                raise UnreadableListError(f"{member} is no list")
            if len(items) > MAX_ITEMS:
                raise UnreadableListError(f"{member} has more than {MAX_ITEMS} items")
            method, parameter = _ITEMS[member]
            result[member] = [
                item for item in items if self._may_call(method, parameter, item, principal)
            ]
        if has_hints or any(hint in result for hint in _HINTS):
            # Without it, clients take a result for everybody's.
            result["cacheScope"] = "private"

    def _may_call(
        self, method: str, parameter: str, item: object, principal: Principal | None
    ) -> bool:
        """Whether a call of an item is open, or the caller has what it needs."""
        name = item.get(parameter) if isinstance(item, dict) else None
        if not isinstance(name, str):
            return False
        try:
            needed = evaluated(self._requirement, method, {parameter: name})
        except Refusal:
            return False
        except Exception as error:  # noqa: BLE001 - fails closed, whatever it raises
            if self._log_lines.may_pass(Requirement):
                log_unexpected(log, "the requirement failed, so an item is not listed", error)
            return False
        if needed is None:
            return True
        return principal is not None and needed.met_by(principal.scopes)


def asks_for_list(message: Message | None) -> bool:
    """Whether a message, or one of a batch, asks for a list that is filtered."""
    return message is not None and any(name in _LISTS for name, _ in messages.calls(message))


def plainly_answered(scope: Scope) -> Scope:
    """The scope of a request that the app answers with a whole response that is not encoded."""
    kept = [
        (name, value)
        for name, value in scope["headers"]
        if name.lower().replace(b"_", b"-") not in _NEGOTIATING
    ]
    extensions: Mapping[str, Any] = scope.get("extensions") or {}
    return {
        **scope,
        "headers": [*kept, (b"accept-encoding", b"identity")],
        "extensions": {name: it for name, it in extensions.items() if name not in _EXTENSIONS},
    }


def _result_of(entry: object) -> dict[str, Any] | None:
    """The result of a response with a list in it."""
    result = entry.get("result") if isinstance(entry, dict) else None
    if not isinstance(result, dict) or _ITEMS.keys().isdisjoint(result):
        return None
    return result
