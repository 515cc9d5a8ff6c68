"""Revocations: what they count, and what they reject."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from authsvc.admin.revocations import COUNT_PAGE_SIZE, MAX_COUNT_PAGES
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.record import Grant
from authsvc.domain.revocation import EVERYONE, NotBefore
from authsvc.domain.revocation_target import EveryoneTarget, SubjectTarget, TokenTarget
from tests.authsvc.admin.office import Office, fill, record
from tests.support.clock import START

pytestmark = pytest.mark.anyio


async def test_many_sessions_do_not_delay_a_revocation(office: Office) -> None:
    office.store.page_size = 1
    await fill(office, *(record(f"s{n}", now=START + n / 1000) for n in range(MAX_COUNT_PAGES + 1)))
    office.clock.advance(1)
    revoked = await office.admin.revocations.revoke(SubjectTarget("idp", "alice"), caller="op")
    assert office.store.pages_read == MAX_COUNT_PAGES
    assert revoked.session_count is None
    assert revoked.not_before is not None
    assert revoked.not_before.time == START + 1
    assert COUNT_PAGE_SIZE * MAX_COUNT_PAGES == 100_000


async def test_an_issuer_that_is_not_configured_is_revoked_on_request_alone(
    office: Office,
) -> None:
    """A misspelt issuer would revoke nothing and look like a success."""
    position = await office.store.position()
    for attempt in (
        office.admin.revocations.revoke(SubjectTarget("ipd", "alice"), caller="op"),
        office.admin.revocations.revoke(TokenTarget("ipd", "j1"), caller="op"),
    ):
        with pytest.raises(AuthError) as caught:
            await attempt
        assert caught.value.reason is Reason.ARGUMENT_INVALID
        assert caught.value.detail == "'ipd' is not configured; these are: idp"
    assert await office.store.position() == position

    for revoked in (
        await office.admin.revocations.revoke(
            SubjectTarget("ipd", "alice"), caller="op", allow_unknown_issuer=True
        ),
        await office.admin.revocations.revoke(
            TokenTarget("ipd", "j1"), caller="op", allow_unknown_issuer=True
        ),
    ):
        assert revoked.not_before is not None
        assert revoked.not_before.issuer == "ipd"


async def test_the_newest_token_known_counts_wherever_it_is(office: Office) -> None:
    ahead = Grant(b"d" * 32, START + 25, START + 600)
    grants = MappingProxyType({"https://b.example/mcp": ahead})
    # The session has expired or ended: its token may be presented on another session.
    gone = record("gone", now=START - 7200, grants=grants)
    ended = record("ended", revoke_time=START, grants=MappingProxyType({}))
    await fill(office, gone, ended, record("here"), record("bobs", subject="bob", now=START + 29))
    revoked = await office.admin.revocations.revoke(SubjectTarget("idp", "alice"), caller="op")
    assert revoked.not_before == NotBefore(START + 25, START, issuer="idp", subject="alice")
    assert revoked.session_count == 1


async def test_a_principal_session_counts_while_it_lives(office: Office) -> None:
    await fill(
        office,
        record("~dead", revoke_time=START),
        record("~alive", revoke_time=START - 1),
    )
    office.clock.advance(1)
    revoked = await office.admin.revocations.revoke(SubjectTarget("idp", "alice"), caller="op")
    assert revoked.session_count == 1


async def test_a_revocation_that_fails_is_not_audited(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    await office.store.close()
    with pytest.raises(AuthError) as caught:
        await office.admin.revocations.revoke(EveryoneTarget(), caller="op")
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    assert not caplog.records


async def test_empty_names_are_not_everyone(office: Office) -> None:
    for work in (
        office.admin.revocations.revoke(SubjectTarget("", ""), caller="op"),
        office.admin.revocations.revoke(TokenTarget("", ""), caller="op"),
    ):
        with pytest.raises(AuthError) as caught:
            await work
        assert caught.value.reason is Reason.ARGUMENT_INVALID
    not_befores = office.store.cached_not_befores()
    assert not_befores is not None
    assert EVERYONE not in {not_before.key for not_before in not_befores}
