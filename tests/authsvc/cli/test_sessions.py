"""``authsvc sessions`` and ``authsvc keys show`` against a running service, over TLS."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from authsvc.cli import main
from authsvc.client import AuthClient, ClientTls
from authsvc.diagnosis import diagnose, service
from authsvc.domain.provider_session import session_digest
from authsvc.server.config import Settings
from authsvc.server.running import running
from tests.support.clock import Clock
from tests.support.commands import (
    PATIENT,
    ROOT,
    SECONDS,
    Ran,
    environment,
    run,
    run_here,
    run_on_terminal,
)
from tests.support.http import serving_http
from tests.support.operators import Site, clients, settings, write_tls
from tests.support.service import settings_for
from tests.support.tokens import ISSUER, OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

ESCAPE = "\x1b]0;owned\x07\x1b[31m\u202e"


class Operator:
    """Runs commands as an operator of a service."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.options = (
            *("--target", site.address, "--ca-file", str(site.tls / "ca.pem")),
            *("--service-token-file", str(site.tls / "operator")),
            *PATIENT,
        )

    async def sessions(self, command: str, *arguments: str) -> Ran:
        return await run_here("sessions", command, *self.options, *arguments)


@asynccontextmanager
async def operated(folder: Path, idp: IdentityProvider, clock: Clock) -> AsyncIterator[Operator]:
    tls = write_tls(folder / "tls")
    async with (
        running(settings(folder, tls, idp), clock=clock) as address,
        clients(address, tls) as site,
    ):
        yield Operator(site)


@pytest.fixture
async def operator(tmp_path: Path, idp: IdentityProvider, clock: Clock) -> AsyncIterator[Operator]:
    async with operated(tmp_path, idp, clock) as operator:
        yield operator


async def test_list_filters_counts_the_remaining_and_truncates_ids(
    operator: Operator, idp: IdentityProvider
) -> None:
    for number in range(3):
        await operator.site.resolve(f"anonymous-session-{number}")
    await operator.site.resolve("session-of-ada", idp.token("ada"))
    await operator.site.resolve("session-of-bob", idp.token("bob", aud=OTHER_RESOURCE),
                                resource=OTHER_RESOURCE)  # fmt: skip

    cut = await operator.sessions("list", "--limit", "2")
    assert cut.code == 0
    assert cut.out.splitlines()[0].split()[:3] == ["SESSION", "STATE", "SUBJECT"]
    assert len(cut.out.splitlines()) == 3
    assert "2 shown, 3 more" in cut.err
    assert "session-…" in cut.out
    assert "session-of-" not in cut.out
    assert "\x1b" not in cut.out

    whole = await operator.sessions("list", "--all", "--full-ids", "--subject", "ada")
    assert whole.out.splitlines()[1].split()[:3] == ["session-of-ada", "authenticated", "ada"]
    assert len(whole.out.splitlines()) == 2

    for arguments, ids in (
        (("--state", "unauthenticated"), [f"anonymous-session-{it}" for it in (2, 1, 0)]),
        (("--resource", OTHER_RESOURCE), ["session-of-bob"]),
        (("--issuer", ISSUER, "--limit", "1"), ["session-of-bob"]),
        (("--issuer", "https://other.example"), []),
    ):
        listed = (await operator.sessions("list", "--json", *arguments)).json()
        assert [it["id"] for it in listed["sessions"]] == ids
        assert listed["remaining_count"] == (1 if "--limit" in arguments else 0)
        assert listed["remaining_count_is_exact"] is True


async def test_revoked_sessions_are_listed_as_such_and_by_no_other_state(
    operator: Operator, idp: IdentityProvider
) -> None:
    await operator.site.resolve("lives", idp.token("ada"))
    await operator.site.resolve("ended-session", idp.token("ada"))
    await operator.sessions("revoke", "ended-session", "--yes")
    for state, ids in (("revoked", ["ended-session"]), ("authenticated", ["lives"])):
        listed = (await operator.sessions("list", "--json", "--state", state)).json()["sessions"]
        assert [(it["id"], it["state"]) for it in listed] == [(name, state) for name in ids]


async def test_show_and_revoke_find_a_session_by_the_beginning_of_its_id(
    operator: Operator, idp: IdentityProvider
) -> None:
    token = idp.token("ada", jti="one")
    await operator.site.resolve("first-session", token)
    await operator.site.resolve("-Ab3-session-of-bob", idp.token("bob"))
    for ending in ("session", "season"):
        await operator.site.resolve(f"second-{ending}", token)

    for name, remark in (
        ("first-session", ""),
        ("first-se…", "Found by the beginning of its id: first-session of ada.\n"),
    ):
        ran = await operator.sessions("show", name, "--json")
        shown = ran.json()
        assert (shown["id"], shown["subject"], shown["state"]) == (
            "first-session",
            "ada",
            "authenticated",
        )
        assert [it["token_id"] for it in shown["grants"]] == ["one"]
        assert (shown["revoke_time"], ran.err) == (None, remark)
    people = await operator.sessions("show", "first-session")
    assert "subject    ada" in people.out
    assert f"resource  {RESOURCE}" in people.out
    listed = (await operator.sessions("list", "--session", "second-…", "--json")).json()["sessions"]
    assert {it["id"] for it in listed} == {"second-session", "second-season"}

    for command in (("show",), ("show", "--json"), ("revoke", "--yes"), ("revoke", "--json")):
        several = await operator.sessions(*command, "second-s…")
        assert (several.code, several.out) == (1, "")
        said, headers, *rows = several.err.splitlines()
        assert said.startswith("authsvc: 2 session ids begin with 'second-s'; give more of the id.")
        assert headers.split() == ["SESSION", "SUBJECT", "RESOURCES", "LAST", "SEEN"]
        assert {tuple(row.split()[:3]) for row in rows} == {
            ("second-session", "ada", RESOURCE),
            ("second-season", "ada", RESOURCE),
        }
        short = await operator.sessions(*command, "fir")
        assert (short.code, short.out) == (2, "")
        assert "the beginning of one has at least 6 characters" in short.err
        missing = await operator.sessions(*command, "nothing-begins-so")
        assert (missing.code, missing.out) == (1, "")
        assert "SESSION_NOT_FOUND: no session id is 'nothing-begins-so'" in missing.err
        assert "search it for 'nothing-', in SESSION_ENDED" in missing.err
    for name in ("first-session", "second-session", "second-season"):
        assert await operator.site.refusal(name, token) is None

    done = await operator.sessions("revoke", "-Ab3-ses…", "--yes")
    assert done.out == "Revoked session -Ab3-session-of-bob.\n"
    assert done.err == "Found by the beginning of its id: -Ab3-session-of-bob of bob.\n"
    assert (await operator.site.operator.get("-Ab3-session-of-bob")).revoke_time is not None


async def test_revoke_asks_and_ends_what_was_named(
    operator: Operator, idp: IdentityProvider, clock: Clock
) -> None:
    token = idp.token("ada", jti="one")
    await operator.site.resolve("session-of-ada", token)
    await operator.site.resolve("another-of-ada", token)

    unasked = await operator.sessions("revoke", "session-of-ada")
    assert unasked.code == 2
    assert "would revoke session session-of-ada; confirm with --yes" in unasked.err
    assert await operator.site.refusal("session-of-ada", token) is None

    done = await operator.sessions("revoke", "session-of-ada", "--yes", "--json")
    assert done.json() == {"revoked": "session session-of-ada", "session_count": 1}
    again = await operator.sessions("revoke", "session-of-ada", "--yes")
    assert again.out == "Nothing to revoke: session session-of-ada had ended.\n"
    assert str(await operator.site.refusal("session-of-ada", token)) == "Reason.SESSION_REVOKED"
    assert await operator.site.refusal("another-of-ada", token) is None

    clock.advance(1)
    by_subject = await operator.sessions("revoke", "--subject", "ada", "--yes")
    assert "1 live session held such a token. Sessions remain" in by_subject.out
    assert f"every token of ada of {ISSUER}" in by_subject.out
    assert str(await operator.site.refusal("another-of-ada", token)) == "Reason.TOKEN_REVOKED"
    clock.advance(1)
    later = idp.token("ada", jti="two")
    assert await operator.site.refusal("another-of-ada", later) is None
    await operator.sessions("revoke", "--token-id", "two", "--issuer", ISSUER, "--yes")
    assert str(await operator.site.refusal("another-of-ada", later)) == "Reason.TOKEN_REVOKED"


async def test_after_a_mass_revocation_sessions_say_what_happened(
    operator: Operator, idp: IdentityProvider, clock: Clock
) -> None:
    names = ["session-of-ada", "session-of-bob", "session-of-cy"]
    for name in names:
        await operator.site.resolve(name, idp.token(name.removeprefix("session-of-")))
    await operator.site.resolve("anonymous-one")
    clock.advance(1)
    await operator.sessions("revoke", "--everyone", "--yes")

    async def marked() -> list[str]:
        ran = await operator.sessions("list", "--state", "tokens-revoked", "--json")
        assert {it["state"] for it in ran.json()["sessions"]} <= {"tokens-revoked"}
        return sorted(it["id"] for it in ran.json()["sessions"])

    assert await marked() == names
    table = (await operator.sessions("list")).out
    assert table.count("  tokens revoked  ") == 3
    assert table.count("  unauthenticated  ") == 1
    others = await operator.sessions("list", "--state", "authenticated", "--json")
    assert others.json()["sessions"] == []
    show = await operator.sessions("show", "session-of-ada")
    assert "state      tokens revoked\n" in show.out
    assert "token     revoked\n" in show.out
    clock.advance(1)
    await operator.site.resolve("session-of-ada", idp.token("ada"))
    assert await marked() == names[1:]
    again = await operator.sessions("show", "session-of-ada")
    assert "token     not revoked\n" in again.out
    for name, revoked in (("session-of-ada", False), ("session-of-bob", True)):
        (grant,) = (await operator.sessions("show", name, "--json")).json()["grants"]
        assert grant["token_revoked"] is revoked
    # An event says what its record held: what is in force now is no part of it.
    (line, *_) = await _lines(operator, "watch", "--resume-token", "0", "--count", "4", "--json")
    assert "token_revoked" not in json.loads(line)["session"]["grants"][0]


async def test_revoke_ends_a_session_of_the_provider(
    operator: Operator, idp: IdentityProvider
) -> None:
    sid = "sid-of-the-provider"
    of_sid, of_another, of_none = (
        idp.token("ada", sid=name or None) for name in (sid, "another", "")
    )
    for session_id, token in (("one", of_sid), ("two", of_another), ("three", of_none)):
        await operator.site.resolve(session_id, token)
    shown = f"provider session {session_digest(ISSUER, sid)[:8]} of {ISSUER}"
    alone = await operator.sessions("revoke", "--sid", sid, "--yes")
    assert alone.out == f"Revoked every token of {shown}.\n"
    assert str(await operator.site.refusal("one", of_sid)) == "Reason.TOKEN_REVOKED"
    assert await operator.site.refusal("three", of_none) is None
    both = await operator.sessions("revoke", "--sid", sid, "--subject", "ada", "--yes")
    assert f"every token of {shown}, and ada's tokens without one. 2 live" in both.out
    assert await operator.site.refusal("two", of_another) is None
    assert str(await operator.site.refusal("three", of_none)) == "Reason.TOKEN_REVOKED"

    log = ("watch", "--resume-token", "0", "--count", "6")
    lines = [line.partition("TOKENS_REVOKED")[2] for line in await _lines(operator, *log)][3:]
    without = f"every token of ada of {ISSUER} without a provider session"
    assert [line.strip() for line in lines] == [
        f"every token of {shown}",
        without,
        f"every token of {shown}",
    ]
    documents = [json.loads(line) for line in await _lines(operator, *log, "--json")]
    digest = session_digest(ISSUER, sid)
    sessions = [it["revocation"]["provider_session"] for it in documents[3:]]
    assert sessions == [digest, "-", digest]
    assert documents[0]["session"]["grants"][0]["provider_session"] == digest
    assert sid not in f"{alone.out}{both.out}{lines}{documents}"


async def _lines(operator: Operator, command: str, *arguments: str) -> list[str]:
    return (await operator.sessions(command, *arguments)).out.splitlines()


async def test_an_unconfigured_issuer_is_an_error_before_any_confirmation(
    operator: Operator,
) -> None:
    misspelt = f"{ISSUER}/"
    for whose in (("--subject", "ada"), ("--token-id", "one"), ("--sid", "x")):
        for options in ((), ("--yes",), ("--yes", "--json")):
            ran = await operator.sessions("revoke", *whose, "--issuer", misspelt, *options)
            assert (ran.code, ran.out) == (2, "")
            assert f"not configured with the issuer {misspelt}: nothing was revoked" in ran.err
            assert f"--issuer: give one of {ISSUER}; " in ran.err

        removed = ("--issuer", misspelt, "--allow-unknown-issuer")
        ran = await operator.sessions("revoke", *whose, *removed, "--yes")
        assert ran.code == 0
        assert f"of {misspelt}" in ran.out


async def test_a_filter_by_an_unconfigured_issuer_gets_a_warning(
    operator: Operator, idp: IdentityProvider
) -> None:
    remark = f"The service is not configured with the issuer {ISSUER}/, but {ISSUER}.\n"
    await operator.site.resolve("session-of-ada", idp.token("ada"))
    misspelt = await operator.sessions("list", "--issuer", f"{ISSUER}/", "--json")
    assert (misspelt.code, misspelt.json()["sessions"], misspelt.err) == (0, [], remark)
    nobody = await operator.sessions("list", "--issuer", ISSUER, "--subject", "nobody")
    assert nobody.err == "No session matches.\n"

    watching = asyncio.create_task(
        operator.sessions("watch", "--issuer", f"{ISSUER}/", "--count", "1")
    )
    async with asyncio.timeout(SECONDS):
        while not watching.done():  # until it is watching: this concerns every issuer
            await operator.site.operator.revoke_everyone()
            await asyncio.wait({watching}, timeout=0.2)
    assert (await watching).err.startswith(remark)


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ((), "give one of SESSION_ID, --subject"),
        (("s", "--everyone"), "give one of SESSION_ID, --subject"),
        (("s", "--before", "2h"), "--before goes with"),
        (("--sid", "x", "--before", "2h"), "--before goes with"),
        (("--sid", "x", "--token-id", "j"), "give one of SESSION_ID, --subject, --sid"),
        (("--sid", "x", "--everyone"), "give one of SESSION_ID, --subject, --sid"),
        (("s", "--sid", "x"), "give one of SESSION_ID, --subject, --sid"),
        (("--everyone", "--issuer", "i"), "--issuer goes with"),
        (("--subject", "s", "--allow-unknown-issuer"), "--allow-unknown-issuer goes with"),
        (("--everyone", "--before", "soon"), "is not a time such as"),
        (("--everyone", "--before", "2099-01-01"), "'2099-01-01' is not between 1970 and now"),
        (("--subject", "s", "--before", "1969-01-01"), "'1969-01-01' is not between 1970 and now"),
        (("--evrybody",), "Did you mean '--everyone'?"),
    ],
)
def test_an_invalid_revocation(arguments: tuple[str, ...], wrong: str) -> None:
    ran = CliRunner().invoke(main, ["sessions", "revoke", *arguments, "--yes"])
    assert ran.exit_code == 2
    assert wrong in ran.output


async def test_a_subject_without_a_session_gets_a_warning(
    operator: Operator, idp: IdentityProvider, clock: Clock
) -> None:
    remark = "No session of that subject exists; check the spelling.\n"
    await operator.site.resolve("session-of-ada", idp.token("ada"))
    clock.advance(1)
    for subject, options, said in (
        ("adda", (), remark),
        ("adda", ("--json",), remark),
        ("ada", (), ""),
        ("ada", (), ""),  # its only session holds no other token, and is known
    ):
        ran = await operator.sessions("revoke", "--subject", subject, "--yes", *options)
        assert (ran.code, ran.err) == (0, said)


async def test_on_a_terminal_revoke_asks(operator: Operator) -> None:
    await operator.site.resolve("the-session")
    for answer, code in (("n\n", 1), ("y\n", 0)):
        ran = await asyncio.to_thread(
            run_on_terminal, "sessions", "revoke", *operator.options, "the-session", given=answer
        )
        assert "Revoke session the-session? [y/N]" in ran.out
        assert ran.code == code
        refusal = await operator.site.refusal("the-session")
        assert (refusal is None) is (answer == "n\n")


async def test_no_escape_sequence_reaches_the_terminal(
    operator: Operator, idp: IdentityProvider
) -> None:
    hostile = idp.token("ada", jti=f"jti{ESCAPE}", client_id=f"client{ESCAPE}[bold]x[/bold]")
    await operator.site.resolve("hostile-session", hostile)
    for arguments in (("show", "hostile-session"), ("list", "--subject", "ada")):
        command, *rest = arguments
        for options in ((), ("--json",)):
            ran = await asyncio.to_thread(
                run_on_terminal, "sessions", command, *operator.options, *rest, *options
            )
            assert ran.code == 0
            assert "\x1b]0" not in ran.out
            assert "\x07" not in ran.out
            assert "\x1b[31m" not in ran.out
            assert "\u202e" not in ran.out
            assert "hostile-" in ran.out
    piped = await operator.sessions("show", "hostile-session")
    assert r"jti\x1b]0;owned\x07\x1b[31m\u202e" in piped.out
    assert "[bold]x[/bold]" in piped.out
    assert piped.out.replace("\n", "").isprintable()


async def test_watch_prints_events_until_ctrl_c(operator: Operator, idp: IdentityProvider) -> None:
    process = await asyncio.create_subprocess_exec(
        *("env", "--default-signal=INT", sys.executable, "-W", "error", "-m"),
        *("authsvc", "sessions", "watch"),
        *operator.options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(SECONDS):
        assert b"Watching" in await process.stderr.readline()
        await operator.site.resolve("the-watched-session", idp.token("ada"))
        line = (await process.stdout.readline()).decode()
        assert "CREATED" in line
        assert "ada" in line
        assert "the-watc…" in line
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, out, err) == (0, b"", b"")


async def test_watch_resumes_where_it_was(operator: Operator, idp: IdentityProvider) -> None:
    watching = asyncio.create_task(operator.sessions("watch", "--json", "--count", "1"))
    number = 0
    async with asyncio.timeout(SECONDS):
        while not watching.done():  # until it is watching
            number += 1
            await operator.site.resolve(f"session-{number}")
            await asyncio.wait({watching}, timeout=0.2)
        first = json.loads((await watching).out)
        await operator.site.resolve("afterwards-one")
        begun = int(first["session"]["id"].removeprefix("session-"))
        wanted = [*(f"session-{it}" for it in range(begun + 1, number + 1)), "afterwards-one"]
        options = ("--count", str(len(wanted)), "--resume-token", first["resume_token"])
        ran = await operator.sessions("watch", "--json", *options)
    assert [json.loads(it)["session"]["id"] for it in ran.out.splitlines()] == wanted


async def test_a_caller_without_admin_is_denied_with_a_remedy(operator: Operator) -> None:
    site = operator.site
    where = ("--target", site.address, "--ca-file", str(site.tls / "ca.pem"), *PATIENT)
    server = await run("sessions", "list", *where, "--service-token-file", str(site.tls / "server"))
    assert server.code == 1
    assert "CALLER_NOT_ALLOWED" in server.err
    assert "admin = true" in server.err


async def test_settings_come_from_options_variables_and_a_file(
    operator: Operator, tmp_path: Path
) -> None:
    site = operator.site
    file = tmp_path / "admin.toml"
    file.write_text(
        f'target = "127.0.0.1:1"\nca_file = "{site.tls}/ca.pem"\n'
        f'service_token_file = "{site.tls}/operator"\n'
    )
    env = {"AUTHSVC_ADMIN_CONFIG": str(file), "AUTHSVC_ADMIN_TARGET": site.address}
    listed = await run("sessions", "list", "--json", *PATIENT, env=env)
    assert listed.json()["sessions"] == []
    away = ("sessions", "list", "--target", "127.0.0.1:1", "--timeout-seconds", "0.3")
    unreached = await run(*away, env=env)
    assert unreached.code == 3
    assert "Check that authsvc listens at 127.0.0.1:1." in unreached.err
    file.write_text('tarjet = "x"')
    wrong = await run("sessions", "list", "--admin-config", file)
    assert wrong.code == 2
    assert "tarjet: there is no such setting" in wrong.err


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (("--target", "authsvc.example:50051"), "TLS is required, give --ca-file"),
        (("--service-token-file", "x"), "requires TLS"),
        (("--certificate-file", "x"), "go together"),
        (("--ca-file", "/nonexistent"), "TLS: ca_file /nonexistent: No such file"),
        (("--target", "http://x"), "--target"),
    ],
)
def test_an_unsafe_connection_is_rejected(arguments: tuple[str, ...], wrong: str) -> None:
    ran = CliRunner().invoke(main, ["sessions", "list", *arguments])
    assert ran.exit_code == 2
    assert wrong in ran.output


async def test_an_unknown_authority_is_explained_by_the_command_alone(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRPC_VERBOSITY", raising=False)
    strange = write_tls(tmp_path / "stranger") / "ca.pem"
    # It tries again for as long as it has.
    few = ("--timeout-seconds", "10")
    ran = await run("sessions", "list", *operator.options, *few, "--ca-file", strange)
    assert (ran.code, ran.out) == (3, "")
    said, why, presented, expected = ran.err.splitlines()
    assert said.startswith("authsvc: SERVICE_UNAVAILABLE: ")
    assert why.startswith(f"The certificate at {operator.site.address} is not signed by")
    assert f"--ca-file (ca_file) {strange}" in why
    assert presented.startswith("It presents: subject CN=")
    assert expected.startswith("--ca-file has: CN=")


async def test_what_speaks_no_grpc_is_named(operator: Operator) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    tls = ("--ca-file", str(operator.site.tls / "ca.pem"))
    few = ("--timeout-seconds", "3")
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        here = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for options, says in (((), "speak gRPC in the clear"), (tls, "speak TLS")):
            ran = await run_here("sessions", "list", "--target", here, *options, *few)
            assert ran.code == 3
            assert f"What listens at {here} does not {says}" in ran.err


async def test_keys_of_the_running_service(operator: Operator) -> None:
    keys = (await run("keys", "show", *operator.options, "--json")).json()["keys"]
    assert [(it["issuer"], it["algorithm"], it["state"]) for it in keys] == [
        (ISSUER, "HS256", "ready")
    ]


async def test_why_newer_keys_could_not_be_loaded_is_printed(
    operator: Operator, tmp_path: Path, clock: Clock
) -> None:
    whole = await run("keys", "show", *operator.options, "--json")
    (path,) = tmp_path.glob("secret*")
    path.write_text("short")
    clock.advance(10)
    for options in ((), ("--json",)):
        ran = await run("keys", "show", *operator.options, *options)
        assert ran.err.startswith(f"Newer keys of {ISSUER} could not be loaded: {path}: ")
    assert whole.json()["keys"][0]["failure"] is None
    failure = ran.json()["keys"][0].pop("failure")
    assert failure.startswith(f"{path}: ")
    assert ran.json()["keys"][0]["time"] == whole.json()["keys"][0]["time"]
    tls = ClientTls(operator.site.tls / "ca.pem", service_token_file=operator.site.tls / "operator")
    check = service.admin(operator.site.address, tls, SECONDS)
    found = [it async for it in diagnose([check], timeout_seconds=SECONDS)]
    assert [str(it.level) for it in found] == ["ok", "ok", "warn"]
    assert found[-1].text == f"{ISSUER}: newer keys could not be loaded: {failure}"


async def test_keys_that_are_nowhere_are_named_with_their_url(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> None:
    """By the running service, to operators; the query of the URL may hold a secret."""
    with serving_http() as site:
        issuer = {"issuer": ISSUER, "algorithms": ["ES256"], "jwks_url": f"{site.url}/keys?hush"}
        configured = settings_for(tmp_path, idp, local_operators=True, issuers=[issuer])
        async with running(configured, clock=clock) as address:
            ran = await run("keys", "show", "--target", address, *PATIENT)
            check = service.admin(address, None, SECONDS)
            found = [it async for it in diagnose([check], timeout_seconds=SECONDS)]
    failure = f"{site.url}/keys?...: answered 404"
    assert ran.err.strip() == f"Keys of {ISSUER} could not be loaded: {failure}"
    (fault,) = (it for it in found if str(it.level) != "ok")
    assert (str(fault.level), fault.text) == ("fail", f"{ISSUER}: keys are unavailable: {failure}")
    assert "answered 503" in fault.remedy
    assert "hush" not in ran.out


@pytest.mark.parametrize("permitted", [False, True])
async def test_without_callers_the_machine_s_processes_are_operators_if_they_are_permitted(
    tmp_path: Path, idp: IdentityProvider, clock: Clock, *, permitted: bool
) -> None:
    configured = settings_for(tmp_path, idp, local_operators=permitted)
    async with running(configured, clock=clock) as address, AuthClient(address) as client:
        await client.resolve("session-of-ada", idp.token("ada"), resource=RESOURCE, create=True)
        listed = await run("sessions", "list", "--target", address, *PATIENT)
        revoked = await run(
            "sessions", "revoke", "session-of-ada", "--yes", "--target", address, *PATIENT
        )
    if permitted:
        assert (listed.code, "ada" in listed.out, revoked.code) == (0, True, 0)
        return
    assert (listed.code, revoked.code) == (1, 1)
    assert "add local_operators = true to its configuration" in listed.err


def test_local_operators_beside_callers_has_no_effect(
    tmp_path: Path, idp: IdentityProvider
) -> None:
    tls = write_tls(tmp_path / "tls")
    configured = settings(tmp_path, tls, idp).model_dump(exclude_unset=True)
    with pytest.raises(ValidationError, match="local_operators"):
        Settings(**{**configured, "local_operators": True})
