"""A revocation that an operator requests: checked, described and carried out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from authsvc.cli.failing import Failure
from authsvc.cli.output import moment
from authsvc.domain.provider_session import session_digest, shown_digest
from authsvc.domain.revocation_target import (
    EveryoneTarget,
    ProviderSessionTarget,
    RevocationTarget,
    SessionTarget,
    SubjectTarget,
    TokenTarget,
)


@dataclass(frozen=True, slots=True)
class Revocation:
    """What to revoke. Options that were not given are empty."""

    session_id: str
    issuer: str
    subject: str
    token_id: str
    everyone: bool
    before: float | None
    allow_unknown_issuer: bool
    sid: str = field(default="", repr=False)

    def check(self) -> None:
        """
        Raises:
            Failure: not exactly one target, or options that contradict each other.
        """
        # A subject beside a provider session says whose it is.
        whose = self.sid or self.subject
        named = [self.session_id, whose, self.token_id, self.everyone]
        if sum(map(bool, named)) != 1:
            raise Failure("give one of SESSION_ID, --subject, --sid, --token-id and --everyone")
        if self.before is not None and (self.session_id or self.token_id or self.sid):
            raise Failure("--before goes with --subject and --everyone")
        if self.issuer and (self.session_id or self.everyone):
            raise Failure("--issuer goes with --subject, --sid and --token-id")
        if self.allow_unknown_issuer and not self.issuer:
            raise Failure("--allow-unknown-issuer goes with --issuer")

    def __str__(self) -> str:
        if self.session_id:
            return f"session {self.session_id}"
        if self.token_id:
            return f"token {self.token_id} of {self.issuer}"
        if self.sid:
            digest = shown_digest(session_digest(self.issuer, self.sid))
            whose = f", and {self.subject}'s tokens without one" if self.subject else ""
            return f"every token of provider session {digest} of {self.issuer}{whose}"
        whose = "everyone" if self.everyone else f"{self.subject} of {self.issuer}"
        until = "now" if self.before is None else moment(self.before, time.time())
        return f"every token of {whose} issued until {until}"

    @property
    def target(self) -> RevocationTarget:
        """As ``AdminClient.revoke`` takes it."""
        if self.session_id:
            return SessionTarget(self.session_id)
        if self.token_id:
            return TokenTarget(self.issuer, self.token_id)
        if self.sid:
            return ProviderSessionTarget(self.issuer, self.sid, self.subject)
        if self.subject:
            return SubjectTarget(self.issuer, self.subject, self.before)
        return EveryoneTarget(self.before)

    def outcome(self, session_count: int | None) -> str:
        """The result, as a sentence.

        Args:
            session_count: see ``Revoked``.
        """
        if self.session_id:
            return f"Revoked {self}." if session_count else f"Nothing to revoke: {self} had ended."
        if session_count is None:
            return f"Revoked {self}."
        plural = "" if session_count == 1 else "s"
        return (
            f"Revoked {self}. {session_count} live session{plural} held such a token. Sessions "
            "remain, and continue with tokens that are issued later."
        )
