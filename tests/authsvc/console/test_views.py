"""How times and untrusted text are shown."""

from __future__ import annotations

import pytest
from markupsafe import Markup

from authsvc.console.views import environment, iso, utc, visible
from authsvc.domain.provider_session import NO_PROVIDER_SESSION
from authsvc.domain.revocation import NotBefore
from authsvc.domain.service_status import IssuerState, IssuerStatus, ServiceStatus, SkippedKey
from authsvc.domain.signal_status import (
    StreamChange,
    StreamFailure,
    StreamState,
    StreamStatus,
    StreamVerification,
)
from tests.support.clock import START, Clock


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("alice", "alice"),
        ("Åsa 京子 👩", "Åsa 京子 👩"),
        ("a\nb", "a\\u{a}b"),
        ("admin\u202e\u2066gnp", "admin\\u{202e}\\u{2066}gnp"),
        ("zero\u200bwidth\ufeff", "zero\\u{200b}width\\u{feff}"),
        ("\u2028", "\\u{2028}"),
        ("\x00\x1b[31m", "\\u{0}\\u{1b}[31m"),
    ],
)
def test_invisible_characters_are_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_markup_and_numbers_stay() -> None:
    markup = Markup("<b>\n</b>")
    assert visible(markup) is markup
    assert visible(3) == 3


def test_every_value_is_escaped(clock: Clock) -> None:
    template = environment(clock).from_string('<a title="{{ it }}">{{ it }}</a>')
    page = template.render(it="<script>\"'&\u202e")
    assert page.count("&lt;script&gt;&#34;&#39;&amp;\\u{202e}") == 2


def test_times() -> None:
    assert utc(START) == "2027-01-15 08:00:00"
    assert iso(START) == "2027-01-15T08:00:00Z"
    assert utc(-1) == "1970-01-01 00:00:00"
    assert utc(1e300) == "9999-12-31 23:59:59"


def test_entries_of_a_jwk_set_that_are_not_used_are_listed() -> None:
    skipped = (
        SkippedKey("keys[1] (kid '<b>')", "is private; publish the public key alone"),
        SkippedKey("keys[2]", "is not for signatures: its use is enc", is_invalid=False),
    )
    issuer = IssuerStatus("idp", IssuerState.UNAVAILABLE, "jwks_url", (), START, skipped)
    page = (
        environment(lambda: START)
        .get_template("issuers.html")
        .render(
            login=None,
            page="issuers",
            problem=None,
            status=ServiceStatus("1", START, START, True, (issuer,)),
            IssuerState=IssuerState,
        )
    )
    assert "keys[1] (kid &#39;&lt;b&gt;&#39;)" in page
    assert all(entry.cause in page for entry in skipped)


def test_a_stream_of_signals_that_is_polled() -> None:
    stream = StreamStatus(
        "https://idp.example/<b>",
        True,
        StreamChange(START - 60, StreamState.ENABLED),
        last_failure=StreamFailure(START - 30, "<i>store</i>"),
        last_poll_time=START - 20,
        poll_failure=StreamFailure(START - 10, "status 503"),
        verifications=(StreamVerification(START - 40),),
    )

    def page(*streams: StreamStatus) -> str:
        template = environment(lambda: START).get_template("signals.html")
        return template.render(login=None, page="signals", now=START, streams=streams)

    shown = page(stream, StreamStatus("https://other.example", True))
    assert "https://idp.example/&lt;b&gt;" in shown
    assert "Signals may be missing: polls fail." in shown
    assert "&lt;i&gt;store&lt;/i&gt;" in shown
    assert "status 503" in shown
    assert "Verified" in shown
    assert shown.count("No signal has come yet") == shown.count("no poll has succeeded yet") == 1


@pytest.mark.parametrize(
    ("not_before", "text"),
    [
        (NotBefore(START, START, "idp", "alice"), "<b>alice</b> at idp, issued"),
        (
            NotBefore(START, START, "idp", "alice", provider_session=NO_PROVIDER_SESSION),
            "<b>alice</b> at idp, without a provider session, issued",
        ),
        (
            NotBefore(START, START, "idp", provider_session="<igest-of-a-session"),
            "provider session <code>&lt;igest-o</code> of idp, issued",
        ),
        (NotBefore(START, START, "idp", "", "j1"), "token <code>j1</code> of idp"),
        (NotBefore(START, START), "everyone, issued"),
    ],
)
def test_what_was_revoked(not_before: NotBefore, text: str) -> None:
    template = environment(lambda: START).from_string(
        '{% from "parts.html" import not_before with context %}{{ not_before(it) }}'
    )
    assert text in template.render(it=not_before)
