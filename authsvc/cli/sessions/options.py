"""Options that several of the commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from authsvc.domain.events import RecordFilter

full_ids_option = click.option(
    "--full-ids", is_flag=True, help="Print whole session ids, not truncated as in logs."
)


def filter_options(*states: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a filter; it gets ``which``, a ``RecordFilter``, and ``state``.

    Args:
        states: what ``--state`` may be. ``which`` covers the state but for ``revoked``, which no
            filter of the service has.
    """

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def filtered(
            issuer: str,
            subject: str,
            resource: str,
            state: str | None,
            **given: Any,  # noqa: ANN401 - whatever other options the command has
        ) -> None:
            authenticated = _AUTHENTICATED.get(state)
            which = RecordFilter(issuer, subject, authenticated, resource)
            command(which=which, state=state, **given)

        options = (
            click.option("--issuer", default="", help="Only sessions of this issuer."),
            click.option("--subject", default="", help="Only sessions of this subject."),
            click.option(
                "--resource", default="", help="Only sessions with a token for this resource."
            ),
            click.option("--state", type=click.Choice(states), help="Only sessions in this state."),
        )
        for option in reversed(options):
            filtered = option(filtered)
        return filtered

    return decorated


_AUTHENTICATED: dict[str | None, bool] = {"authenticated": True, "unauthenticated": False}
