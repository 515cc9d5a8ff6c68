"""Audit of calls: who called which tool of which MCP server, and with what outcome.

Calls are many, so they are written by a rule of their own: ``CallAudit.record`` never waits for a
disk. Neither a token nor a credential is in an event, and of a tool's arguments only those are that
the tool declares as safe.
"""

from __future__ import annotations

import json
import logging
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from itertools import islice
from types import MappingProxyType
from typing import Literal, Protocol

LOGGER_NAME = "authsvc.calls"

log = logging.getLogger(LOGGER_NAME)
# Independent of the level of the log, as security events are.
log.setLevel(logging.INFO)

MAX_VALUE_CHARACTERS = 256
"""Longest text of a call event; what is longer is cut, and ends in ``CUT``."""

MAX_ARGUMENTS = 16
"""Most arguments of one call that are audited."""

MAX_ACTORS = 8
"""Most actors of one call that are audited, the current one first."""

CUT = "…[cut]"
"""The end of a text that was cut."""

CALL = "CALL"
"""The event type of a call."""

CallsAudited = Literal["off", "sampled", "full"]
"""Which calls are audited: none, a ratio of them, or all."""


class CallOutcome(StrEnum):
    """How a call ended."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    DENIED = "DENIED"
    ENDED = "ENDED"
    """The response was cut off: by a revocation, or because the client left."""


class CallActor(Protocol):
    """One who acts for the subject (RFC 8693 section 4.1): ``domain.resolution.Actor``."""

    @property
    def subject(self) -> str:
        """Claim ``sub`` of the actor."""

    @property
    def issuer(self) -> str:
        """Claim ``iss`` of the actor; empty when absent."""

    @property
    def client_id(self) -> str:
        """Claim ``client_id`` of the actor; empty when absent."""


@dataclass(frozen=True, slots=True)
class CallEvent:
    """One call; what does not apply is empty. Fields as in docs/audit.md.

    Attributes:
        method: the MCP method, such as ``tools/call``.
        tool: the tool that was called; empty for other methods.
        outcome: how the call ended.
        reason: why it failed or was denied; empty where it succeeded.
        status: the HTTP status of the response; 0 where there was none.
        duration_seconds: from the request's arrival to the response's end.
        caller: the MCP server or gateway, by its configured name.
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
    actors: tuple[CallActor, ...] = ()
    trace_id: str = ""
    client_address: str = ""
    arguments: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


class CallAudit:
    """Writes call events.

    Attributes:
        counts: number of events by result: ``written``, ``dropped``, ``failed``.
    """

    def __init__(self, calls: CallsAudited = "full", *, sample_ratio: float = 0.01) -> None:
        """Create the audit.

        Args:
            calls: which calls are audited.
            sample_ratio: of the calls, where ``calls`` is ``sampled``; more than 0, at most 1.
        """
        self._ratio = {"off": 0.0, "sampled": sample_ratio, "full": 1.0}[calls]
        self.counts: Counter[str] = Counter({"written": 0, "dropped": 0, "failed": 0})

    def wants(self) -> bool:
        """Whether the next call is audited. Asked once a call."""
        ratio = self._ratio
        return ratio == 1.0 or (ratio > 0.0 and random.random() < ratio)  # noqa: S311 - a sample

    def record(self, event: CallEvent) -> None:
        """Audit a call. Never waits."""
        values: dict[str, object] = {name: getattr(event, name) for name in _FIELDS}
        values["actors"] = [_fields_of(actor) for actor in event.actors[:MAX_ACTORS]]
        values["arguments"] = dict(event.arguments)
        log.info("a call", extra={"event_type": CALL, **values})
        self.counts["written"] += 1


def declared_arguments(arguments: Mapping[str, object], names: Iterable[str]) -> Mapping[str, str]:
    """The arguments of a call that its tool declares as safe, as text of bounded length.

    Args:
        arguments: of the call, as the client sent them.
        names: those that are declared; others are never in an event.

    Returns:
        Text as it is; other values as JSON. At most ``MAX_ARGUMENTS``, of at most
        ``MAX_VALUE_CHARACTERS`` each.
    """
    found = [(name, arguments[name]) for name in names if name in arguments]
    return {name: _text(value) for name, value in found[:MAX_ARGUMENTS]}


def bounded(text: str) -> str:
    """The text, cut to ``MAX_VALUE_CHARACTERS``."""
    if len(text) <= MAX_VALUE_CHARACTERS:
        return text
    return text[: MAX_VALUE_CHARACTERS - len(CUT)] + CUT


def _text(value: object) -> str:
    if isinstance(value, str):
        return bounded(value)
    # Piece by piece: a large value is not encoded to be cut.
    pieces = islice(json.JSONEncoder(default=repr).iterencode(value), MAX_VALUE_CHARACTERS + 1)
    return bounded("".join(pieces))


def _fields_of(actor: CallActor) -> dict[str, str]:
    return {"subject": actor.subject, "issuer": actor.issuer, "client_id": actor.client_id}


_FIELDS = tuple(item.name for item in fields(CallEvent))
