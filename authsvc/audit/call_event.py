"""The event of a call: who called which tool of which MCP server, and with what outcome.

Neither a token nor a credential is in it, and of a tool's arguments only those are that the tool
declares as safe.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain, islice
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from authsvc.domain.resolution import MAX_ACTORS, SESSION_ID_SHOWN, Actor, shown

CALL = "CALL"
"""The event type of a call."""

CALLS_DROPPED = "CALLS_DROPPED"
"""The event type of the report that calls were dropped."""

CALL_TEXT = "a call"
DROPPED_TEXT = "calls were not audited: too many at once, or the file is too slow or full"

MAX_VALUE_CHARACTERS = 256
"""Longest text of a call event; what is longer is cut, and ends in ``CUT``."""

MAX_METHOD_CHARACTERS = 64
"""Longest method of a call event: those of MCP are shorter, and a client can name any."""

MAX_ARGUMENTS = 16
"""Most arguments of one call that are audited."""

CUT = "…[cut]"
"""The end of a text that was cut."""

_MAX_INTEGER_BITS = 512
"""Of an integer that is written in digits: 155 of them."""


class CallOutcome(StrEnum):
    """How a call ended."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    DENIED = "DENIED"
    ENDED = "ENDED"
    """The response was cut off: by a revocation, or because the client left."""


@dataclass(frozen=True, slots=True)
class CallEvent:
    """One call; what does not apply is empty. Fields as in docs/audit.md.

    Attributes:
        method: the MCP method, such as ``tools/call``.
        outcome: how the call ended.
        tool: the name of the tool or prompt, or the URI of the resource; empty for other methods.
        reason: why it failed or was denied; empty where it succeeded.
        status: the HTTP status of the response; 0 where there was none.
        duration_seconds: from the request's arrival to the response's end.
        caller: of a check, the gateway by its configured name; empty at a gate.
        session: the first eight characters of the session id, as ``domain.resolution.shown`` has
            them.
        resource: the MCP server's canonical URI.
        issuer: ``iss`` of the token.
        subject: the subject of the token.
        client_id: the client of the token.
        actors: those who act for the subject, the current one first.
        trace_id: of the request's trace; 32 hexadecimal digits.
        client_address: the IP address of the client.
        arguments: those that the tool declares as safe, as ``declared_arguments`` has them.
    """

    method: str
    outcome: CallOutcome
    tool: str = ""
    reason: str = ""
    status: int = 0
    duration_seconds: float = 0.0
    caller: str = ""
    session: str = ""
    resource: str = ""
    issuer: str = ""
    subject: str = ""
    client_id: str = ""
    actors: tuple[Actor, ...] = ()
    trace_id: str = ""
    client_address: str = ""
    arguments: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def characters(self) -> int:
        """About how many characters it has: its size in a queue."""
        size = sum(map(len, _texts_of(self)))
        for actor in self.actors:
            size += len(actor.subject) + len(actor.issuer) + len(actor.client_id)
        for name, value in self.arguments.items():
            size += len(name) + len(value)
        return size


_TEXTS = (
    *("method", "tool", "reason", "caller", "resource", "issuer", "subject", "client_id"),
    *("trace_id", "client_address"),
)
"""The fields of a call event that are text of any length."""

_texts_of = attrgetter(*_TEXTS)


def bounded(event: CallEvent) -> CallEvent:
    """The event with no text longer than ``MAX_VALUE_CHARACTERS``, a method of
    ``MAX_METHOD_CHARACTERS`` at most, and no whole session id."""
    if _is_bounded(event):
        return event
    changes: dict[str, Any] = {name: cut(getattr(event, name)) for name in _TEXTS}
    if len(event.method) > MAX_METHOD_CHARACTERS:
        changes["method"] = cut(event.method, MAX_METHOD_CHARACTERS)
    if len(event.session) > SESSION_ID_SHOWN + 1:
        changes["session"] = shown(event.session)
    changes["actors"] = tuple(map(_bounded_actor, event.actors[:MAX_ACTORS]))
    arguments = islice(event.arguments.items(), MAX_ARGUMENTS)
    changes["arguments"] = {cut(name): cut(value) for name, value in arguments}
    return replace(event, **changes)


def _is_bounded(event: CallEvent) -> bool:
    longest_argument = max(map(len, chain.from_iterable(event.arguments.items())), default=0)
    return (
        max(map(len, _texts_of(event))) <= MAX_VALUE_CHARACTERS
        and len(event.session) <= SESSION_ID_SHOWN + 1
        and len(event.actors) <= MAX_ACTORS
        and not any(map(_is_long, event.actors))
        and len(event.arguments) <= MAX_ARGUMENTS
        and longest_argument <= MAX_VALUE_CHARACTERS
    )


def _is_long(actor: Actor) -> bool:
    longest = max(len(actor.subject), len(actor.issuer), len(actor.client_id))
    return longest > MAX_VALUE_CHARACTERS


def _bounded_actor(actor: Actor) -> Actor:
    return Actor(cut(actor.subject), cut(actor.issuer), cut(actor.client_id))


def cut(text: str, characters: int = MAX_VALUE_CHARACTERS) -> str:
    """The text, cut to so many characters."""
    return text if len(text) <= characters else text[: characters - len(CUT)] + CUT


def declared_arguments(arguments: Mapping[str, object], names: Iterable[str]) -> Mapping[str, str]:
    """The arguments of a call that its tool declares as safe, as text of bounded length.

    Args:
        arguments: of the call, as the client sent them.
        names: those that are declared; others are never in an event.

    Returns:
        Text as it is; numbers, ``true`` and ``false`` as in JSON. Objects and arrays are left out.
        At most ``MAX_ARGUMENTS``, of at most ``MAX_VALUE_CHARACTERS`` each.
    """
    found = ((name, arguments[name]) for name in names if name in arguments)
    scalars = ((name, value) for name, value in found if isinstance(value, str | int | float))
    return {name: _text(value) for name, value in islice(scalars, MAX_ARGUMENTS)}


def _text(value: float | str) -> str:
    if isinstance(value, int) and value.bit_length() > _MAX_INTEGER_BITS:
        return CUT
    return cut(value if isinstance(value, str) else json.dumps(value))
