"""``authsvc sessions revoke``."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from authsvc.cli.connection import Connection, admin_options
from authsvc.cli.failing import Failure
from authsvc.cli.instants import PAST_INSTANT
from authsvc.cli.output import as_json_option, print_json, print_line
from authsvc.cli.sessions.ids import SessionIdCommand
from authsvc.cli.sessions.issuers import configured_issuer
from authsvc.cli.sessions.lookup import session_of
from authsvc.cli.sessions.revocation import Revocation
from authsvc.common.printable import printable
from authsvc.domain.events import RecordFilter

if TYPE_CHECKING:
    from authsvc.client import AdminClient
    from authsvc.client.admin import Revoked


@click.command(
    "revoke",
    cls=SessionIdCommand,
    epilog="Examples: authsvc sessions revoke --subject ada; authsvc sessions revoke --everyone "
    "--before 2h --yes",
)
@admin_options
@click.argument("session_id", required=False, default="")
@click.option("--subject", default="", help="Revoke every token of this subject.")
@click.option(
    "--sid",
    default="",
    help="Revoke the tokens of the provider's session with this claim sid; with --subject, the "
    "subject's tokens without a sid, too.",
)
@click.option("--token-id", default="", help="Revoke the token with this jti.")
@click.option("--everyone", is_flag=True, help="Revoke every token of every subject.")
@click.option(
    "--issuer",
    default="",
    help="Issuer of the subject, session or token; optional if only one is configured.",
)
@click.option(
    "--before",
    type=PAST_INSTANT,
    help="Only tokens issued until then, such as 2026-11-23T21:00:00Z or 2h.",
)
@click.option(
    "--allow-unknown-issuer",
    is_flag=True,
    help="Accept an --issuer that the service is not configured with, such as a former one.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@as_json_option
def revoke(
    connection: Connection,
    session_id: str,
    subject: str,
    sid: str,
    token_id: str,
    everyone: bool,
    issuer: str,
    before: float | None,
    allow_unknown_issuer: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Revoke a session, or tokens: a subject's, one by its jti, those of a session at the identity
    provider, or everyone's.

    A revocation takes effect on every replica within a second, also for tokens that were not used
    before. It cannot be undone. Tokens that are issued later are accepted.

    SESSION_ID may be truncated as in logs and tables. If the ids of several sessions begin so, they
    are listed, and none is revoked. Clients may choose ids: in a script, quote it and write --
    before it, as an id may be --everyone.
    """
    asked = Revocation(
        session_id, issuer, subject, token_id, everyone, before, allow_unknown_issuer, sid
    )
    asked.check()

    async def named(client: AdminClient) -> Revocation:
        if session_id:
            return replace(asked, session_id=(await session_of(client, session_id)).id)
        if everyone or allow_unknown_issuer:
            return asked
        return replace(asked, issuer=await configured_issuer(client, issuer))

    revocation = connection.run(named)
    if not yes:
        _confirm(revocation)

    async def carry_out(client: AdminClient) -> Revoked:
        done = await client.revoke(revocation.target, allow_unknown_issuer=allow_unknown_issuer)
        if subject and not done.session_count:
            await _remark_on_subject(client, revocation)
        return done

    done = connection.run(carry_out)
    if as_json:
        print_json({"revoked": str(revocation), "session_count": done.session_count})
        return
    print_line(revocation.outcome(done.session_count))


async def _remark_on_subject(client: AdminClient, revocation: Revocation) -> None:
    """Warn if the subject of a revocation has no session: its name may be misspelt."""
    async for _ in client.list(RecordFilter(revocation.issuer, revocation.subject)):
        return
    print_line("No session of that subject exists; check the spelling.", err=True)


def _confirm(revocation: Revocation) -> None:
    """
    Raises:
        Failure: there is no terminal to ask on.
        click.Abort: the answer is no.
    """
    if not sys.stdin.isatty():
        raise Failure(f"this would revoke {revocation}; confirm with --yes")
    click.confirm(printable(f"Revoke {revocation}?"), abort=True, err=True)
