"""From what an event is about to what is revoked."""

from __future__ import annotations

from collections.abc import Iterator

from authsvc.domain.revocation_target import ProviderSessionTarget, SubjectTarget, TokenTarget
from authsvc.signals.actions import Action
from authsvc.signals.signals import Stream
from authsvc.signals.subjects import Subject

Target = ProviderSessionTarget | SubjectTarget | TokenTarget


def targets_of(action: Action, subject: Subject, stream: Stream) -> tuple[Target, ...]:
    """What an event revokes, each once; nothing where it names nobody whom its stream may name.

    Args:
        action: what events of its type do.
        subject: what it is about.
        stream: whose event it is.
    """
    if action is Action.NONE:
        return ()
    return tuple(dict.fromkeys(_targets(action, subject, stream)))


def _targets(action: Action, subject: Subject, stream: Stream) -> Iterator[Target]:
    for token in subject.tokens:
        for issuer in stream.issuers_of(token.issuer):
            yield TokenTarget(issuer, token.token_id)
    for user in subject.users:
        for issuer in stream.issuers_of(user.issuer):
            if subject.sid and action is Action.SESSION:
                yield ProviderSessionTarget(issuer, subject.sid, user.subject)
            else:
                yield SubjectTarget(issuer, user.subject)
    if subject.sid and not subject.users:
        for issuer in stream.applies_to:
            yield ProviderSessionTarget(issuer, subject.sid)
