"""Options that several of the commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from authsvc.cli.failing import Failure
from authsvc.cli.sessions.records import state_option
from authsvc.domain.events import MIN_PREFIX_LENGTH, RecordFilter, RecordState

full_ids_option = click.option(
    "--full-ids", is_flag=True, help="Print whole session ids, not truncated as in logs."
)


def filter_options(*states: RecordState) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a filter; it gets ``which``, a ``RecordFilter``, and ``state``.

    Args:
        states: what ``--state`` may be. ``which`` covers whether sessions are authenticated; the
            rest of the state is in no filter of the service.
    """

    by_name = {state_option(state): state for state in states}

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def filtered(
            issuer: str,
            subject: str,
            resource: str,
            session: str,
            state: str | None,
            **given: Any,  # noqa: ANN401 - whatever other options the command has
        ) -> None:
            wanted = by_name[state] if state is not None else None
            which = RecordFilter(
                issuer,
                subject,
                _AUTHENTICATED.get(wanted),
                resource,
                _prefix_of(session) if session else "",
            )
            command(which=which, state=wanted, **given)

        options = (
            click.option("--issuer", default="", help="Only sessions of this issuer."),
            click.option("--subject", default="", help="Only sessions of this subject."),
            click.option(
                "--resource", default="", help="Only sessions with a token for this resource."
            ),
            click.option(
                "--session",
                default="",
                help="Only sessions whose id begins so; truncated as in logs, or six characters.",
            ),
            click.option(
                "--state", type=click.Choice(list(by_name)), help="Only sessions in this state."
            ),
        )
        for option in reversed(options):
            filtered = option(filtered)
        return filtered

    return decorated


def _prefix_of(session: str) -> str:
    # Imported here: gRPC takes a while to import.
    from authsvc.client.session_lookup import prefix_of

    prefix = prefix_of(session)
    if len(prefix) < MIN_PREFIX_LENGTH:
        raise Failure(
            f"--session: the beginning of a session id has at least {MIN_PREFIX_LENGTH} characters"
        )
    return prefix


_AUTHENTICATED: dict[RecordState | None, bool] = {
    RecordState.AUTHENTICATED: True,
    RecordState.TOKENS_REVOKED: True,
    RecordState.UNAUTHENTICATED: False,
}
