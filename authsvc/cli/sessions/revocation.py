"""What an operator asks to be revoked: checked, put into words, and carried out."""

from __future__ import annotations

import time
from dataclasses import dataclass

from authsvc.cli.failing import Failure
from authsvc.cli.output import moment
from authsvc.domain.revocation_target import (
    EveryoneTarget,
    RevocationTarget,
    SessionTarget,
    SubjectTarget,
    TokenTarget,
)


@dataclass(frozen=True, slots=True)
class Revocation:
    """What is to be revoked; what is empty was not asked for."""

    session_id: str
    issuer: str
    subject: str
    token_id: str
    everyone: bool
    before: float | None
    allow_unknown_issuer: bool

    def check(self) -> None:
        """
        Raises:
            Failure: not exactly one thing, or what does not go together.
        """
        named = [self.session_id, self.subject, self.token_id, self.everyone]
        if sum(map(bool, named)) != 1:
            raise Failure("give one of SESSION_ID, --subject, --token-id and --everyone")
        if self.before is not None and (self.session_id or self.token_id):
            raise Failure("--before goes with --subject and --everyone")
        if self.before is not None and not 0 <= self.before <= time.time():
            raise Failure(
                f"--before is a time from 1970 until now, not {moment(self.before, time.time())}"
            )
        if self.issuer and (self.session_id or self.everyone):
            raise Failure("--issuer goes with --subject and --token-id")
        if self.allow_unknown_issuer and not self.issuer:
            raise Failure("--allow-unknown-issuer goes with --issuer")

    def __str__(self) -> str:
        if self.session_id:
            return f"session {self.session_id}"
        if self.token_id:
            return f"token {self.token_id} of {self.issuer}"
        whose = "everyone" if self.everyone else f"{self.subject} of {self.issuer}"
        until = "now" if self.before is None else moment(self.before, time.time())
        return f"every token of {whose} that was issued until {until}"

    @property
    def target(self) -> RevocationTarget:
        """As ``AdminClient.revoke`` takes it."""
        if self.session_id:
            return SessionTarget(self.session_id)
        if self.token_id:
            return TokenTarget(self.issuer, self.token_id)
        if self.subject:
            return SubjectTarget(self.issuer, self.subject, self.before)
        return EveryoneTarget(self.before)

    def outcome(self, session_count: int | None) -> str:
        """What has happened, in words.

        Args:
            session_count: see ``Revoked``.
        """
        if self.session_id:
            return f"Revoked {self}." if session_count else f"Nothing to revoke: {self} had ended."
        if session_count is None:
            return f"Revoked {self}."
        plural = "" if session_count == 1 else "s"
        return (
            f"Revoked {self}. {session_count} live session{plural} held such a token. A session "
            "itself stays: it goes on with a token that is issued later."
        )
