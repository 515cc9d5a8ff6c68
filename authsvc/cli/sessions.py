"""``authsvc sessions``: what ``SessionAdminService`` offers operators."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from authsvc.cli import records
from authsvc.cli.connection import Connection, admin_options
from authsvc.cli.failing import Failure, No
from authsvc.cli.instants import INSTANT
from authsvc.cli.output import (
    as_json_option,
    moment,
    print_fields,
    print_json,
    print_table,
    say,
)
from authsvc.common.printable import printable
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import RecordFilter
from authsvc.domain.sessions import Record

if TYPE_CHECKING:
    from authsvc.client.admin import AdminClient, Revoked

COUNTED = 1_000
"""How far beyond the limit it is counted what is left."""

SEARCHED = 10_000
"""How many sessions are looked through for the beginning of an id."""

MIN_PREFIX = 6
"""Characters; a shorter beginning is a guess."""

full_ids_option = click.option(
    "--full-ids", is_flag=True, help="Whole session ids; else cut, as in logs."
)


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a filter; it gets ``which``, a ``RecordFilter``."""

    @functools.wraps(command)
    def filtered(
        issuer: str,
        subject: str,
        resource: str,
        state: str | None,
        **given: Any,  # noqa: ANN401 - whatever other options the command has
    ) -> None:
        authenticated = None if state is None else state == "authenticated"
        command(which=RecordFilter(issuer, subject, authenticated, resource), **given)

    options = (
        click.option("--issuer", default="", help="Of this issuer alone."),
        click.option("--subject", default="", help="Of this subject alone."),
        click.option("--resource", default="", help="With a token for this resource."),
        click.option(
            "--state",
            type=click.Choice(["authenticated", "unauthenticated"]),
            help="In this state alone.",
        ),
    )
    for option in reversed(options):
        filtered = option(filtered)
    return filtered


@click.group("sessions")
def command() -> None:
    """List, show, revoke and watch sessions, over SessionAdminService.

    For a caller with admin = true. No answer holds a token or a credential.
    """


@command.command("list", epilog="Example: authsvc sessions list --subject ada --json")
@admin_options
@filter_options
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--all", "everything", is_flag=True, help="However many there are.")
@full_ids_option
@as_json_option
def list_sessions(
    connection: Connection,
    which: RecordFilter,
    limit: int,
    everything: bool,
    full_ids: bool,
    as_json: bool,
) -> None:
    """List sessions, newest first, and say how many more there are."""

    async def fetch(client: AdminClient) -> tuple[list[Record], int]:
        found: list[Record] = []
        left = 0
        async for record in client.list(which):
            if everything or len(found) < limit:
                found.append(record)
            else:
                left += 1
            if left == COUNTED:
                break
        if not found:
            await _remark_on_issuer(client, which.issuer)
        return found, left

    found, left = connection.run(fetch)
    if as_json:
        print_json(
            {
                "sessions": list(map(records.document, found)),
                "left_count": left,
                "left_count_is_exact": left < COUNTED,
            }
        )
        return
    if not found:
        say("No session matches.", err=True)
        return
    now = time.time()
    print_table(records.HEADERS, [records.row(it, now, full_id=full_ids) for it in found])
    if left:
        more = f"{left:,}" if left < COUNTED else f"{COUNTED:,} or more"
        say(f"{len(found)} shown, {more} left: --limit or --all shows them.", err=True)


@command.command("show", epilog="Example: authsvc sessions show 4fZk0Qe1")
@admin_options
@click.argument("session_id")
@as_json_option
def show_session(connection: Connection, session_id: str, as_json: bool) -> None:
    """Show one session, by its id or the beginning of it.

    The id may be as logs and tables have it, with or without the "…" at its end.
    """
    record = connection.run(lambda client: _found(client, session_id))
    if as_json:
        print_json(records.document(record))
        return
    now = time.time()
    print_fields(
        [
            ("session", record.id),
            ("state", records.state_of(record)),
            ("subject", record.subject or "-"),
            ("issuer", record.issuer or "-"),
            ("revision", str(record.revision)),
            ("created", moment(record.create_time, now)),
            ("last seen", moment(record.last_seen_time, now)),
            ("ends", moment(record.expire_time, now)),
        ]
    )
    for resource, grant in record.grants.items():
        click.echo()
        print_fields(
            [
                ("resource", resource),
                ("client", grant.client_id or "-"),
                ("token id", grant.token_id or "-"),
                ("issued", moment(grant.issue_time, now)),
                ("expires", moment(grant.expire_time, now)),
            ]
        )


async def _found(client: AdminClient, session_id: str) -> Record:
    """The session of that id, or the only one whose id begins so.

    Raises:
        No: there is none, or there are several.
        AuthError: as ``AdminClient``.
    """
    beginning = session_id.removesuffix("…")
    try:
        return await client.get(beginning)
    except AuthError as error:
        if error.reason is not Reason.SESSION_NOT_FOUND or len(beginning) < MIN_PREFIX:
            raise
    found: list[Record] = []
    searched = 0
    async for record in client.list():
        searched += 1
        if record.id.startswith(beginning):
            found.append(record)
        if searched == SEARCHED:
            break
    if len(found) > 1:
        raise No(f"{len(found)} sessions begin so; give more of the id")
    if not found:
        raise No(f"SESSION_NOT_FOUND: no session has the id {beginning!a}, or begins so")
    return found[0]


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

    async def carry_out(self, client: AdminClient) -> Revoked:
        """
        Raises:
            AuthError: as ``AdminClient``.
        """
        if self.session_id:
            return await client.revoke_session(self.session_id)
        if self.token_id:
            return await client.revoke_token(
                self.issuer, self.token_id, allow_unknown_issuer=self.allow_unknown_issuer
            )
        if self.subject:
            return await client.revoke_subject(
                self.issuer,
                self.subject,
                before_time=self.before,
                allow_unknown_issuer=self.allow_unknown_issuer,
            )
        return await client.revoke_everyone(before_time=self.before)

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


@command.command(
    "revoke",
    epilog="Examples: authsvc sessions revoke --subject ada; authsvc sessions revoke --everyone "
    "--before 2h --yes",
)
@admin_options
@click.argument("session_id", required=False, default="")
@click.option("--subject", default="", help="Every token of this subject.")
@click.option("--token-id", default="", help="The token with this jti.")
@click.option("--everyone", is_flag=True, help="Every token of everyone.")
@click.option("--issuer", default="", help="Whose; may be left out where only one is trusted.")
@click.option(
    "--before", type=INSTANT, help="Issued until then: 2026-11-23T21:00:00Z, or 2h for 2 hours ago."
)
@click.option(
    "--allow-unknown-issuer",
    is_flag=True,
    help="Also for an --issuer that the service is not configured with, such as a former one.",
)
@click.option("--yes", is_flag=True, help="Without asking.")
@as_json_option
def revoke(
    connection: Connection,
    session_id: str,
    subject: str,
    token_id: str,
    everyone: bool,
    issuer: str,
    before: float | None,
    allow_unknown_issuer: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """End a session, or tokens: of a subject, one by its jti, or everyone's.

    It is obeyed everywhere within a second, by tokens that were never seen before too. It cannot
    be undone; new tokens are welcome.
    """
    asked = Revocation(
        session_id, issuer, subject, token_id, everyone, before, allow_unknown_issuer
    )
    asked.check()

    async def named(client: AdminClient) -> Revocation:
        if session_id:
            return replace(asked, session_id=(await _found(client, session_id)).id)
        if everyone or allow_unknown_issuer:
            return asked
        return replace(asked, issuer=await _configured_issuer(client, issuer))

    revocation = connection.run(named)
    if not yes:
        _confirm(revocation)

    async def carry_out(client: AdminClient) -> Revoked:
        done = await revocation.carry_out(client)
        if subject and not done.session_count:
            await _remark_on_subject(client, revocation)
        return done

    done = connection.run(carry_out)
    if as_json:
        print_json({"revoked": str(revocation), "session_count": done.session_count})
        return
    say(revocation.outcome(done.session_count))


async def _remark_on_issuer(client: AdminClient, named: str) -> None:
    """Say so if nothing new can match, as the service is not configured with the issuer."""
    if not named:
        return
    issuers = [it.issuer for it in (await client.status()).issuers]
    if named not in issuers:
        configured = ", ".join(issuers)
        say(f"The service is not configured with the issuer {named}, but {configured}.", err=True)


async def _remark_on_subject(client: AdminClient, revocation: Revocation) -> None:
    """Say so if the subject of a revocation has no session: its name may be misspelt."""
    async for _ in client.list(RecordFilter(revocation.issuer, revocation.subject)):
        return
    say("No session of that subject is known; check the spelling.", err=True)


async def _configured_issuer(client: AdminClient, named: str) -> str:
    """The issuer that was named; without a name, the only one.

    Raises:
        Failure: authsvc is not configured with it, or with several where none was named.
        AuthError: as ``AdminClient``.
    """
    issuers = [it.issuer for it in (await client.status()).issuers]
    if not named and len(issuers) == 1:
        return issuers[0]
    if named in issuers:
        return named
    choice = f"--issuer: give one of {', '.join(issuers)}"
    if not named:
        raise Failure(choice)
    raise Failure(
        f"the service is not configured with the issuer {named}: nothing was revoked\n"
        f"{choice}; for an issuer that was removed from the configuration, add "
        "--allow-unknown-issuer"
    )


def _confirm(revocation: Revocation) -> None:
    """
    Raises:
        Failure: there is nobody to ask.
        click.Abort: the answer is no.
    """
    if not sys.stdin.isatty():
        raise Failure(f"this would revoke {revocation}; --yes does it without asking")
    click.confirm(printable(f"Revoke {revocation}?"), abort=True, err=True)


@command.command("watch", epilog="Example: authsvc sessions watch --subject ada --json")
@admin_options
@filter_options
@click.option("--resume-token", default="", help="Of the last event seen; else from now on.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
@full_ids_option
@as_json_option
def watch(
    connection: Connection,
    which: RecordFilter,
    resume_token: str,
    count: int | None,
    full_ids: bool,
    as_json: bool,
) -> None:
    """Print what happens to sessions, as it happens, until Ctrl-C.

    A watch that breaks is taken up where it was, at any replica. With --json, one object a line;
    its resume_token continues after it, another day too.
    """

    async def follow(client: AdminClient) -> None:
        seen = 0
        await _remark_on_issuer(client, which.issuer)
        async with client.watching(which, resume_token=resume_token) as events:
            if not as_json:
                say("Watching; Ctrl-C ends it.", err=True)
            async for watched in events:
                if as_json:
                    line = json.dumps(records.event_document(watched.event, watched.resume_token))
                else:
                    line = records.event_line(watched.event, full_id=full_ids)
                say(line)
                seen += 1
                if seen == count:
                    return

    with suppress(KeyboardInterrupt):
        connection.run(follow)
