"""A real console over a real authsvc, over HTTP."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest
from markupsafe import escape

from authsvc.client.session_lookup import MAX_FOUND
from authsvc.common.settings import ConfigError
from authsvc.console.attempts import ATTEMPT_SECONDS, ATTEMPTS
from authsvc.console.config import TlsSettings
from authsvc.console.forms import MAX_BYTES
from authsvc.console.pages import PAGE_SIZE
from authsvc.console.server import running as console_running
from authsvc.domain.errors import Reason
from authsvc.net.development_certificates import write_development_certificates
from authsvc.server.running import running
from tests.authsvc.rpc.test_signal_streams import STREAM_UPDATED, push, receiving
from tests.authsvc.server.test_signals import stream_of
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START, Clock
from tests.support.console import (
    NAME,
    PASSPHRASE,
    Office,
    console_settings,
    hidden_fields,
    sign_in,
)
from tests.support.operators import WAIT_SECONDS, Site, clients, settings, write_tls
from tests.support.signals import Sender
from tests.support.tokens import ISSUER, OTHER_RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

PAGES = (
    *("/", "/sessions", "/session?id=s", "/events", "/issuers", "/signals"),
    *("/revoke", "/revoke/review"),
)
HOSTILE = "<script>alert('x')</script>\"'&"


async def until(page: Callable[[], Awaitable[httpx2.Response]], text: str) -> str:
    """The page, once it has a text: events take a moment to arrive."""
    async with asyncio.timeout(WAIT_SECONDS):
        while text not in (answer := await page()).text:
            pass
    return answer.text


# Signing in.


async def test_unauthenticated_visitors_are_redirected_to_sign_in(office: Office) -> None:
    async with office.visitor() as visitor:
        for path in PAGES:
            answer = await visitor.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in"), path
            assert answer.text == ""


async def test_unauthenticated_visitors_revoke_nothing(
    office: Office, idp: IdentityProvider
) -> None:
    await office.site.resolve("s", idp.token())
    async with office.visitor() as visitor:
        answer = await visitor.post("/revoke", data={"what": "session", "session_id": "s"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert await office.site.refusal("s", idp.token()) is None


async def test_the_cookie_is_for_this_console_alone(office: Office) -> None:
    async with office.visitor() as visitor:
        cookie = (await sign_in(visitor)).headers.get_list("set-cookie")[0]
    name, *attributes = (part.strip() for part in cookie.split(";"))
    assert re.fullmatch(r"authsvc-console=[\w-]{43}", name)
    assert set(attributes) == {"HttpOnly", "Path=/", "SameSite=strict"}


async def test_a_wrong_name_and_a_wrong_passphrase_are_answered_alike(office: Office) -> None:
    wrong = [(NAME, "wrong " + PASSPHRASE), ("nobody", PASSPHRASE), ("", "")]
    async with office.visitor() as visitor:
        for name, passphrase in wrong:
            answer = await sign_in(visitor, name, passphrase)
            assert answer.status_code == 403
            assert "The name or the passphrase is wrong." in answer.text
            assert (await visitor.get("/")).status_code == 303


async def test_sign_in_attempts_are_limited(office: Office) -> None:
    async with office.visitor() as visitor:
        for _ in range(ATTEMPTS):
            assert (await sign_in(visitor, "nobody", "")).status_code == 403
        answer = await sign_in(visitor)
        assert answer.status_code == 429
        assert float(answer.headers["retry-after"]) == ATTEMPT_SECONDS
        office.clock.advance(ATTEMPT_SECONDS)
        assert (await sign_in(visitor)).status_code == 303


async def test_the_sign_in_form_of_another_visitor_is_rejected(office: Office) -> None:
    async with office.visitor() as attacker, office.visitor() as victim:
        fields = hidden_fields((await attacker.get("/sign-in")).text)
        await victim.get("/sign-in")
        theirs = {**fields, "name": NAME, "passphrase": PASSPHRASE}
        assert (await victim.post("/sign-in", data=theirs)).status_code == 403
    async with office.visitor() as without_cookie:
        assert (await without_cookie.post("/sign-in", data=theirs)).status_code == 403


async def test_signing_out_is_final(office: Office) -> None:
    async with office.operator() as operator:
        cookies = dict(operator.cookies)
        page = (await operator.get("/issuers")).text
        answer = await operator.post("/sign-out", data=hidden_fields(page))
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
        assert not operator.cookies.get("authsvc-console")
    async with office.visitor() as thief:
        assert (await thief.get("/", headers=cookie_header(cookies))).status_code == 303


def cookie_header(cookies: dict[str, str]) -> dict[str, str]:
    return {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}


async def test_an_idle_operator_is_signed_out(office: Office) -> None:
    async with office.operator() as operator:
        office.clock.advance(600)
        # A page that refreshes itself does not count as a use.
        assert (await operator.get("/", headers={"X-Console-Refresh": "1"})).status_code == 200
        office.clock.advance(301)
        assert (await operator.get("/")).status_code == 303


@pytest.mark.usefixtures("files_always_checked")
async def test_an_operator_whose_line_is_removed_is_signed_out(office: Office) -> None:
    async with office.operator() as operator:
        line = office.operators_file.read_text().strip().splitlines()[-1]
        office.operators_file.write_text(line.replace(NAME, "ada") + "\n")
        assert (await operator.get("/")).status_code == 303


# Requests that are rejected first.


async def test_other_hosts_are_rejected(office: Office) -> None:
    hosts = ["evil.example", "127.0.0.1", "localhost:1", "", "127.0.0.1.nip.io"]
    async with office.operator() as operator:
        for host in hosts:
            answer = await operator.get("/", headers={"Host": host})
            assert answer.status_code == 421
            assert "authsvc" not in answer.text


async def test_a_post_from_another_origin_is_rejected(
    office: Office, idp: IdentityProvider
) -> None:
    await office.site.resolve("s", idp.token())
    async with office.operator() as operator:
        fields = await reviewed(operator, what="session", session_id="s")
        del operator.headers["Origin"]
        for headers in ({}, {"Origin": "null"}, {"Origin": "https://evil.example"}):
            answer = await operator.post("/revoke", data=fields, headers=headers)
            assert answer.status_code == 403
    assert await office.site.refusal("s", idp.token()) is None


async def test_another_name_of_this_machine_is_another_origin(office: Office) -> None:
    async with office.operator() as operator:
        fields = hidden_fields((await operator.get("/")).text)
        other = office.url.replace("127.0.0.1", "localhost")
        answer = await operator.post("/sign-out", data=fields, headers={"Origin": other})
    assert answer.status_code == 403


async def test_a_form_without_its_csrf_token_is_rejected(
    office: Office, idp: IdentityProvider
) -> None:
    await office.site.resolve("s", idp.token())
    async with office.operator() as operator:
        fields = await reviewed(operator, what="session", session_id="s")
        del fields["csrf_token"]
        for token in ({}, *({"csrf_token": it} for it in ("", "x" * 43, "\N{SNOWMAN}"))):
            answer = await operator.post("/revoke", data={**fields, **token})
            assert answer.status_code == 403
    assert await office.site.refusal("s", idp.token()) is None


async def test_a_form_of_another_operator_is_rejected(office: Office) -> None:
    await office.site.resolve("s")
    async with office.operator() as one, office.operator() as other:
        fields = await reviewed(one, what="session", session_id="s")
        assert (await other.post("/revoke", data=fields)).status_code == 403


async def test_bodies_that_are_large_or_not_forms_are_rejected(office: Office) -> None:
    async with office.operator() as operator:
        token = hidden_fields((await operator.get("/")).text)["csrf_token"]
        large = {"csrf_token": token, "what": "x" * MAX_BYTES}
        assert (await operator.post("/revoke", data=large)).status_code == 413
        assert (await operator.post("/revoke", json={"csrf_token": token})).status_code == 415
        many = {"csrf_token": token, **{f"f{n}": "x" for n in range(30)}}
        assert (await operator.post("/revoke", data=many)).status_code == 400
        assert (await operator.put("/revoke")).status_code == 405


async def test_every_response_has_security_headers(office: Office) -> None:
    async with office.visitor() as visitor:
        for path in ("/sign-in", "/static/console.css", "/nowhere", "/"):
            check_headers((await visitor.get(path)).headers)
        check_headers((await visitor.get("/", headers={"Host": "evil.example"})).headers)
        check_headers((await visitor.post("/", headers={"Origin": "null"})).headers)


def check_headers(headers: httpx2.Headers) -> None:
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "server" not in headers


async def test_only_the_consoles_files_are_served(office: Office) -> None:
    async with office.visitor() as visitor:
        for name in ("console.css", "console.js", "icon.svg"):
            assert (await visitor.get(f"/static/{name}")).status_code == 200
        for name in ("..%2fapp.py", "%2e%2e/app.py", "base.html", "console.css/../../app.py"):
            answer = await visitor.get(f"/static/{name}")
            assert answer.status_code == 404
            assert "import" not in answer.text


# What is shown.


async def test_sessions_are_filtered(office: Office, idp: IdentityProvider) -> None:
    site = office.site
    await site.resolve("alices", idp.token("alice"))
    await site.resolve("bobs", idp.token("bob", aud=OTHER_RESOURCE), resource=OTHER_RESOURCE)
    await site.resolve("nobodys")
    async with office.operator() as operator:
        for query, expected in (
            ({}, {"alices", "bobs", "nobodys"}),
            ({"subject": "alice"}, {"alices"}),
            ({"state": "unauthenticated"}, {"nobodys"}),
            ({"state": "authenticated"}, {"alices", "bobs"}),
            ({"state": "no state"}, {"alices", "bobs", "nobodys"}),
            ({"resource": OTHER_RESOURCE}, {"bobs"}),
            ({"issuer": ISSUER, "subject": "bob"}, {"bobs"}),
            ({"issuer": "https://other.example"}, set()),
            ({"session": "nobody"}, {"nobodys"}),
            ({"session": " nobodys…"}, {"nobodys"}),
            ({"session": "nobody", "subject": "alice"}, set()),
        ):
            page = (await operator.get("/sessions", params=query)).text
            assert shown_sessions(page) == expected, query


def shown_sessions(page: str) -> set[str]:
    return set(re.findall(r'href="/session\?id=([^"]*)"', page))


async def test_a_session_is_opened_by_its_id_or_the_beginning_of_it(
    office: Office, idp: IdentityProvider
) -> None:
    for name in ("first-session", "second-session", "second-season", "s", "-Ab3xyzwv"):
        await office.site.resolve(name, idp.token())
    both = {"second-session", "second-season"}
    async with office.operator() as operator:
        for text, status, says in (
            ("first-session", 200, 'Session <code class="id">first-session</code>'),
            ("first-se…", 200, "Found by the beginning of its id."),
            (" first- ", 200, "Found by the beginning of its id."),
            ("-Ab3xyzw…", 200, 'Session <code class="id">-Ab3xyzwv</code>'),
            ("s", 200, 'Session <code class="id">s</code>'),
            ("second-s…", 200, "Several session ids begin with"),
            ("first", 400, "has at least 6 characters"),
            ("", 400, "has at least 6 characters"),
            ("nothing-begins-so", 404, "SESSION_ENDED"),
            (f"nothing{HOSTILE}", 404, "SESSION_ENDED"),
        ):
            answer = await operator.get("/session", params={"id": text})
            assert (answer.status_code, says in answer.text) == (status, True), text
            assert "<script>alert" not in answer.text
            assert shown_sessions(answer.text) == (both if text == "second-s…" else set())
        short = await operator.get("/sessions", params={"session": "first"})
        assert (short.status_code, "at least 6 characters" in short.text) == (400, True)


async def test_of_many_sessions_that_begin_alike_the_newest_are_shown(office: Office) -> None:
    await office.site.resolve("alike-")
    for number in range(MAX_FOUND):
        await office.site.resolve(f"alike-{number}")
    async with office.operator() as operator:
        page = (await operator.get("/session", params={"id": "alike-…"})).text
        assert f"The newest {MAX_FOUND} of them" in page
        assert 'href="/sessions?session=alike-"' in page
        whole = (await operator.get("/session", params={"id": "alike-"})).text
        assert "Other session ids begin so, too" in whole


async def test_sessions_are_paged(office: Office, idp: IdentityProvider) -> None:
    ids = {f"s{number}" for number in range(PAGE_SIZE + 3)}
    for session_id in ids:
        await office.site.resolve(session_id, idp.token())
    async with office.operator() as operator:
        first = (await operator.get("/sessions", params={"subject": "alice"})).text
        (link,) = re.findall(r'<a href="([^"]*)" rel="next">', first)
        second = (await operator.get(link.replace("&amp;", "&"))).text
        assert shown_sessions(first) | shown_sessions(second) == ids
        assert len(shown_sessions(first)) == PAGE_SIZE
        assert 'rel="next"' not in second
        wrong = await operator.get("/sessions", params={"page_token": "none of ours"})
        assert wrong.status_code == 400
        assert Reason.ARGUMENT_INVALID.name in wrong.text


async def test_a_session_is_shown_with_its_history(
    office: Office, idp: IdentityProvider, clock: Clock
) -> None:
    async with office.operator() as operator:

        def page() -> Awaitable[httpx2.Response]:
            return operator.get("/session", params={"id": "s"})

        await until(lambda: operator.get("/events"), "Watched without a gap")
        token = idp.token(jti="first")
        await office.site.resolve("s")
        await office.site.resolve("s", token)
        clock.advance(5)
        await office.site.resolve("s", idp.token(jti="second"))
        await office.site.resolve("other", idp.token("bob"))
        assert await office.site.refusal("s", idp.token("mallory")) is not None
        await office.site.operator.revoke_subject(ISSUER, "alice")
        await office.site.operator.revoke_token(ISSUER, "another")
        text = await until(page, '<td class="tight"><span class="state revoked">tokens revoked')
        history = text[text.index('id="history"') :]
        told = re.findall(r'<td class="tight"><span class="state \w+">([\w -]+)</span>', history)
        assert told == [
            "tokens revoked",
            "subject mismatch",
            "re-authenticated",
            "re-authenticated",
            "created",
        ]
        assert "first" in text
        assert "second" in text
        assert "bob" not in text
        assert not any(part in text for part in token.split("."))


async def test_sessions_whose_tokens_are_revoked_are_marked(
    office: Office, idp: IdentityProvider
) -> None:
    mark = re.compile(r'<span class="state revoked">(tokens revoked|revoked)</span>')
    for name in ("alice", "bob", "carol"):
        await office.site.resolve(f"session-{name}", idp.token(name))
    async with office.operator() as operator:

        async def marks(path: str) -> list[str]:
            return mark.findall((await operator.get(path)).text)

        assert await marks("/sessions") == []
        await office.site.operator.revoke_everyone()
        for path in ("/sessions", "/session?id=session"):
            assert await marks(path) == ["tokens revoked"] * 3
        assert (await marks("/session?id=session-bob"))[:2] == ["tokens revoked", "revoked"]
        office.clock.advance(1)
        await office.site.resolve("session-bob", idp.token("bob"))
        await office.site.server.revoke("session-carol")
        assert sorted(await marks("/sessions")) == ["revoked", "tokens revoked"]


async def test_an_unknown_session(office: Office) -> None:
    async with office.operator() as operator:
        answer = await operator.get("/session", params={"id": HOSTILE})
    assert answer.status_code == 404
    assert "<script>alert" not in answer.text


async def test_hostile_names_are_text(office: Office, idp: IdentityProvider) -> None:
    session_id = "<script>alert(1)</script>\"'&?/#"
    token = idp.token(HOSTILE, jti=HOSTILE + "\u202e\n", client_id=HOSTILE)
    async with office.operator() as operator:
        await until(lambda: operator.get("/events"), "Watched without a gap")
        await office.site.resolve(session_id, token)
        await until(lambda: operator.get("/events"), "&lt;script&gt;alert(1)")
        listed = (await operator.get("/sessions", params={"subject": HOSTILE})).text
        (path,) = re.findall(r'href="(/session\?id=[^"]*)"', listed)
        session = (await operator.get(path)).text
        review = await operator.get(
            "/revoke/review", params={"what": "subject", "issuer": ISSUER, "subject": HOSTILE}
        )
        for page in ((await operator.get("/")).text, listed, session, review.text):
            assert "<script>alert" not in page
            assert "&lt;script&gt;alert" in page
        # Characters that would reorder or hide text are escaped.
        assert "\u202e" not in session
        assert "\\u{202e}\\u{a}" in session
        # The form has the exact text.
        assert hidden_fields(review.text)["subject"] == HOSTILE
        hidden = await reviewed(operator, what="token", issuer=ISSUER, token_id="\u202ejti")
        assert hidden["token_id"] == "\u202ejti"


async def test_issuers_are_shown_without_their_secrets(
    office: Office, idp: IdentityProvider
) -> None:
    async with office.operator() as operator:
        page = (await operator.get("/issuers")).text
    for text in (ISSUER, "HS256", "secret_file", "ready"):
        assert text in page
    assert idp.secret not in page


async def test_without_signals_there_are_no_streams(office: Office) -> None:
    async with office.operator() as operator:
        page = (await operator.get("/signals")).text
    assert "authsvc receives no signals" in page
    assert '<a href="/signals" aria-current="page">Signals</a>' in page


async def test_streams_of_signals_are_shown(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, operators_file: Path
) -> None:
    tls, sender = write_tls(tmp_path / "tls"), Sender()
    given, url = receiving(settings(tmp_path, tls, idp), stream_of(tmp_path, sender))
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(running(given, clock=clock))
        site = await stack.enter_async_context(clients(address, tls))
        how = console_settings(site, operators_file)
        there = await stack.enter_async_context(console_running(how, clock=clock))
        office = Office(there, site, operators_file, clock)
        operator = await stack.enter_async_context(office.operator())
        assert "No signal has come yet" in (await operator.get("/signals")).text
        event = {"status": "paused", "reason": HOSTILE + "\u202e"}
        about = {"format": "opaque", "id": "stream-1"}
        for text, status in (
            (
                sender.security_event_token(event_type=STREAM_UPDATED, event=event, sub_id=about),
                202,
            ),
            (sender.security_event_token(), 202),
            (Sender().security_event_token(), 400),
        ):
            assert await asyncio.to_thread(push, url, text) == status
        page = (await operator.get("/signals")).text
    assert "Signals may be missing: its transmitter has paused it." in page
    assert "invalid_key: The signature does not verify." in page
    assert "Rejected, which anybody can send" in page
    assert HOSTILE not in page
    assert escape(HOSTILE) in page
    assert "\u202e" not in page
    assert "alice" not in page


async def test_counts_and_rates_are_shown(
    office: Office, idp: IdentityProvider, clock: Clock
) -> None:
    async with office.operator() as operator:
        await until(lambda: operator.get("/events"), "Watched without a gap")
        await office.site.resolve("s", idp.token())
        await office.site.resolve("anonymous")
        await office.site.resolve("another")
        page = await until(
            lambda: operator.get("/", params={"window": "1h"}),
            "Sessions created: 3 in the last 1 hour, at most 3 in 1 min",
        )
        assert 'href="/sessions?state=authenticated">1</a>' in page
        assert 'href="/sessions?state=unauthenticated">2</a>' in page
        clock.advance(2 * 3600)
        page = (await operator.get("/")).text  # signed out by then
        assert page == ""


async def test_while_authsvc_is_unavailable_pages_say_so_and_operators_stay_signed_in(
    office: Office, tmp_path: Path, clock: Clock
) -> None:
    how = console_settings(office.site, office.operators_file)
    away = how.authsvc.model_copy(update={"target": "127.0.0.1:1", "deadline_seconds": 0.2})
    async with AsyncExitStack() as stack:
        running = console_running(how.model_copy(update={"authsvc": away}), clock=clock)
        there = replace(office, url=await stack.enter_async_context(running))
        operator = await stack.enter_async_context(there.operator())
        for path, status in (
            *(("/", 200), ("/issuers", 200)),
            *(("/sessions", 503), ("/signals", 503)),
        ):
            answer = await operator.get(path)
            assert (answer.status_code, "SERVICE_UNAVAILABLE" in answer.text) == (status, True)
        await until(lambda: operator.get("/events"), "Events are not being watched")
        assert (await operator.get("/revoke")).status_code == 200


# Revoking.


async def reviewed(operator: httpx2.AsyncClient, **what: str) -> dict[str, str]:
    """The fields of the form that confirms."""
    answer = await operator.get("/revoke/review", params=what)
    assert answer.status_code == 200
    return hidden_fields(answer.text)


async def test_a_session_is_revoked_once_it_is_confirmed(
    office: Office, idp: IdentityProvider
) -> None:
    await office.site.resolve("s", idp.token())
    async with office.operator() as operator:
        fields = await reviewed(operator, what="session", session_id="s")
        assert await office.site.refusal("s", idp.token()) is None  # a review revokes nothing
        answer = await operator.post("/revoke", data=fields)
        assert (answer.status_code, answer.headers["location"]) == (303, "/session?id=s")
        assert await office.site.refusal("s", idp.token()) is Reason.SESSION_REVOKED
        assert "The session is revoked." in (await operator.get("/session?id=s")).text
        assert "The session is revoked." not in (await operator.get("/session?id=s")).text
        await operator.post("/revoke", data=fields)
        assert "There was nothing to revoke" in (await operator.get("/session?id=s")).text


async def test_a_session_to_revoke_is_found_before_the_review_alone(
    office: Office, idp: IdentityProvider
) -> None:
    names = ("first-session", "second-session", "second-season")
    for name in names:
        await office.site.resolve(name, idp.token())
    async with office.operator() as operator:
        fields = await reviewed(operator, what="session", session_id="first-se…")
        assert fields["session_id"] == "first-session"
        for text, says in (
            ("second-s…", "The ids of 2 sessions begin with second-s. Give the whole id of one: "),
            ("second-s…", "second-season of alice"),
            ("first", "has at least 6 characters"),
            ("nothing-begins-so", "there is nothing to revoke"),
        ):
            what = {"what": "session", "session_id": text}
            answer = await operator.get("/revoke/review", params=what)
            assert (answer.status_code, says in answer.text) == (400, True), text
        # What is posted is the whole id: nothing is looked for.
        for text, status in (("first-", 303), ("second-", 303), ("first-se…", 400)):
            answer = await operator.post("/revoke", data={**fields, "session_id": text})
            assert answer.status_code == status
        for name in names:
            assert await office.site.refusal(name, idp.token()) is None
        await operator.post("/revoke", data=fields)
    assert await office.site.refusal("first-session", idp.token()) is Reason.SESSION_REVOKED


async def test_a_subject_is_revoked_up_to_a_time(
    office: Office, idp: IdentityProvider, clock: Clock
) -> None:
    await office.site.resolve("s", old := idp.token())
    clock.advance(60)
    new = idp.token()
    clock.advance(60)
    before = "2027-01-15T08:00:30"
    assert START == 1_800_000_000  # 2027-01-15T08:00:00Z
    async with office.operator() as operator:
        what = {"what": "subject", "issuer": ISSUER, "subject": "alice", "before": before}
        answer = await operator.post("/revoke", data=await reviewed(operator, **what))
        place = urlsplit(answer.headers["location"])
        assert place.path == "/sessions"
        assert dict(parse_qsl(place.query)) == {"issuer": ISSUER, "subject": "alice"}
        assert "1 live session held one" in (await operator.get(answer.headers["location"])).text
    assert await office.site.refusal("s", old) is Reason.TOKEN_REVOKED
    assert await office.site.refusal("s", new) is None


async def test_a_token_is_revoked(office: Office, idp: IdentityProvider) -> None:
    bad, good = idp.token(jti="bad"), idp.token(jti="good")
    async with office.operator() as operator:
        fields = await reviewed(operator, what="token", issuer=ISSUER, token_id="bad")
        answer = await operator.post("/revoke", data=fields)
        assert answer.headers["location"] == "/events"
    assert await office.site.refusal("s", bad) is Reason.TOKEN_REVOKED
    assert await office.site.refusal("s", good) is None


async def test_everyone_is_revoked_once_the_word_is_typed(
    office: Office, idp: IdentityProvider
) -> None:
    token = idp.token()
    async with office.operator() as operator:
        fields = await reviewed(operator, what="everyone")
        for word in ({}, {"word": "yes"}):
            answer = await operator.post("/revoke", data={**fields, **word})
            assert answer.status_code == 400
            assert "to revoke everything" in answer.text
        assert await office.site.refusal("s", token) is None
        answer = await operator.post("/revoke", data={**fields, "word": "everyone"})
        assert answer.status_code == 303
    assert await office.site.refusal("s", token) is Reason.TOKEN_REVOKED


async def test_invalid_revocations_are_rejected_with_the_reason(office: Office) -> None:
    wrong: list[tuple[dict[str, str], str]] = [
        ({}, "Choose what to revoke."),
        ({"what": "nothing"}, "Choose what to revoke."),
        ({"what": "session", "session_id": ""}, "Give a session id"),
        ({"what": "subject", "subject": "alice"}, "Give an issuer"),
        ({"what": "token", "issuer": ISSUER}, "Give a token id"),
        (
            {"what": "token", "issuer": f"{ISSUER}/", "token_id": "j1"},
            f"not configured with the issuer {ISSUER}/. Give one of: {ISSUER}. ",
        ),
        (
            {"what": "subject", "issuer": f"{ISSUER}/", "subject": "alice"},
            f"not configured with the issuer {ISSUER}/. Give one of: {ISSUER}. ",
        ),
        ({"what": "everyone", "before": "soon"}, "Give the time as"),
        ({"what": "everyone", "before": "2999-01-01T00:00:00"}, "has to be in the past"),
        ({"what": "everyone", "before": "0001-01-01T00:00:00+23:59"}, "has to be in the past"),
    ]
    async with office.operator() as operator:
        token = hidden_fields((await operator.get("/")).text)["csrf_token"]
        for what, says in wrong:
            answer = await operator.get("/revoke/review", params=what)
            assert (answer.status_code, says in answer.text) == (400, True), what
            answer = await operator.post("/revoke", data={**what, "csrf_token": token})
            assert (answer.status_code, says in answer.text) == (400, True), what


# Starting.


@pytest.mark.usefixtures("files_always_checked")
async def test_over_tls_cookies_are_for_tls(site: Site, operators_file: Path, clock: Clock) -> None:
    files = {"certificate_file": site.tls / "server.pem", "key_file": site.tls / "server.key"}
    how = console_settings(site, operators_file, tls=files)
    async with console_running(how, clock=clock) as url:
        assert url.startswith("https://127.0.0.1:")
        trust = ssl.create_default_context(cafile=site.tls / "ca.pem")
        async with httpx2.AsyncClient(
            base_url=url, headers={"Origin": url}, verify=trust, timeout=TIMEOUT_SECONDS
        ) as visitor:
            answer = await sign_in(visitor)
            assert answer.status_code == 303
            cookie = answer.headers.get_list("set-cookie")[0]
            assert cookie.startswith("__Host-authsvc-console=")
            assert "Secure" in cookie
            assert "strict-transport-security" in answer.headers
        # A certificate that is renewed is presented from then on.
        write_development_certificates(site.tls, client_name="spiffe://dev/console")
        renewed = ssl.create_default_context(cafile=site.tls / "ca.pem")
        async with httpx2.AsyncClient(base_url=url, verify=renewed, timeout=TIMEOUT_SECONDS) as it:
            assert (await it.get("/sign-in")).status_code == 200


async def test_behind_a_proxy_browsers_name_the_proxy(
    site: Site, operators_file: Path, clock: Clock
) -> None:
    with socket.socket() as taken_for_a_moment:
        taken_for_a_moment.bind(("127.0.0.1", 0))
        here = f"127.0.0.1:{taken_for_a_moment.getsockname()[1]}"
    name = "https://console.example.com"
    how = console_settings(site, operators_file, listen=here, url=name, behind_proxy=True)
    async with (
        console_running(how, clock=clock) as url,
        httpx2.AsyncClient(base_url=f"http://{here}", timeout=TIMEOUT_SECONDS) as proxy,
    ):
        assert url == name
        assert (await proxy.get("/sign-in")).status_code == 421
        as_asked = {"Host": "console.example.com", "Origin": name}
        answer = await proxy.get("/sign-in", headers=as_asked)
        assert answer.headers["set-cookie"].startswith("__Host-authsvc-console-sign-in=")
        for host in ("console.example.com:443", "Console.Example.com"):
            assert (await proxy.get("/sign-in", headers={"Host": host})).status_code == 200
        for host in ("console.example.com:80", "console.example.com.", "x@console.example.com"):
            assert (await proxy.get("/sign-in", headers={"Host": host})).status_code == 421


async def test_a_file_that_cannot_be_used_is_named(
    site: Site, operators_file: Path, tmp_path: Path
) -> None:
    nowhere = tmp_path / "nowhere"
    how = console_settings(site, operators_file)
    authsvc = how.authsvc.model_copy(update={"service_token_file": nowhere})
    tls = TlsSettings(certificate_file=nowhere, key_file=nowhere)
    for setting, value, named in (
        ("operators_file", nowhere, "operators_file: "),
        ("tls", tls, f"tls.certificate_file: {nowhere}: No such file"),
        ("authsvc", authsvc, "authsvc: "),
        ("listen", site.address, "listen: "),
    ):
        with pytest.raises(ConfigError, match=f"^{named}"):
            async with console_running(how.model_copy(update={setting: value})):
                raise AssertionError("it runs")
