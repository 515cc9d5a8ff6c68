"""``authsvc sessions``: ``SessionAdminService`` for operators, a module for each command."""

from __future__ import annotations

import click

from authsvc.cli.sessions.listing import list_sessions
from authsvc.cli.sessions.revoke import revoke
from authsvc.cli.sessions.show import show_session
from authsvc.cli.sessions.watch import watch


@click.group("sessions")
def command() -> None:
    """List, show, revoke and watch sessions, over SessionAdminService.

    For a caller with admin = true. No answer holds a token or a credential.
    """


for subcommand in (list_sessions, show_session, revoke, watch):
    command.add_command(subcommand)
