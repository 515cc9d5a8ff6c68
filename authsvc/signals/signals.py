"""Signals, and the streams that they come in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from authsvc.signals.subjects import Subject
from authsvc.tokens.sources import KeySource, table_of

SET_TYPES = ("secevent+jwt",)
"""Header ``typ`` of security event tokens (RFC 8417 section 2.3)."""

MAX_AGE_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Stream:
    """A sender of signals: ``[[signals.streams]]``.

    Attributes:
        issuer: claim ``iss`` of its logout tokens and security event tokens, exactly.
        keys: its verification keys.
        audiences: values of ``aud``, one of which each token has: client ids of logout tokens, the
            receiver's id of security event tokens.
        applies_to: issuers of the tokens that it may revoke.
        accepted_types: header ``typ`` of its security event tokens, without regard to case or
            ``application/``; ``none`` for tokens without one.
        subject_formats: formats of ``SUBJECT_FORMATS`` whose value is the subject of tokens.
        leeway_seconds: how far its clock may deviate.
        max_age_seconds: how long ago a token may have been issued.
        keys_table: the table of the configuration that its keys are in.
    """

    issuer: str
    keys: KeySource = field(repr=False)
    audiences: Collection[str]
    applies_to: tuple[str, ...]
    accepted_types: tuple[str, ...] = SET_TYPES
    subject_formats: Collection[str] = ()
    leeway_seconds: float = 30.0
    max_age_seconds: float = MAX_AGE_SECONDS
    keys_table: str = ""

    @property
    def table(self) -> str:
        """The table of the configuration that its settings are in."""
        return f"signals.streams[{self.issuer}]"

    @property
    def set_types(self) -> frozenset[str]:
        """``accepted_types`` in the form of ``CompactJws.token_type``."""
        names = (name.lower().removeprefix("application/") for name in self.accepted_types)
        return frozenset("" if name == "none" else name for name in names)

    @property
    def algorithms_setting(self) -> str:
        """The setting of the algorithms that its keys are for."""
        return f"{self.keys_table or table_of(self.issuer)}.algorithms"

    def issuers_of(self, named: str) -> tuple[str, ...]:
        """The issuers of the tokens that a signal means, of those that the stream may revoke.

        Args:
            named: the issuer that it names; empty where it names none. The stream's own issuer
                stands for all of ``applies_to``: a provider may have one issuer for its sign-ins
                and others for access tokens.
        """
        if named in ("", self.issuer):
            return self.applies_to
        return (named,) if named in self.applies_to else ()


@dataclass(frozen=True, slots=True)
class Signal:
    """One event of a verified token.

    Attributes:
        event_type: the URI of its type, as the sender wrote it.
        name: the short name of its type.
        subject: what it is about.
        time: when it happened, as far as the sender says so, in seconds since the epoch: it was
            issued then, or later.
        event: its members, as the sender wrote them.
    """

    event_type: str
    name: str
    subject: Subject
    time: float
    event: Mapping[str, object] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignalToken:
    """A verified logout token or security event token.

    Attributes:
        stream: whose.
        token_id: claim ``jti``.
        key: a digest of what makes it one of its kind: its issuer and ``jti``.
        until: until then it is known as received, in seconds since the epoch: it is
            rejected for its age before.
        signals: its events.
    """

    stream: Stream
    token_id: str
    key: str
    until: float
    signals: tuple[Signal, ...]
