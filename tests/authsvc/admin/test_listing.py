"""Lists of sessions, in pages."""

from __future__ import annotations

import pytest

from authsvc.admin.listing import MAX_STORE_PAGES
from authsvc.admin.sessions import SessionAdmin
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import RecordFilter
from tests.authsvc.admin.office import ALL, Office, fill, record
from tests.support.clock import START

pytestmark = pytest.mark.anyio


async def reason(admin: SessionAdmin, which: RecordFilter, **more: object) -> Reason:
    with pytest.raises(AuthError) as caught:
        await admin.sessions.page(which, **more)  # type: ignore[arg-type] # any argument
    return caught.value.reason


async def test_a_page_is_filled_from_short_ones(office: Office) -> None:
    office.store.page_size = 3
    subjects = ["bob"] * 10 + ["alice"] * 4
    await fill(
        office,
        *(record(f"s{n:02}", subject=who, now=START + n) for n, who in enumerate(subjects)),
    )
    office.clock.advance(100)
    listing = await office.admin.sessions.page(RecordFilter(subject="bob"), size=5)
    assert [it.id for it in listing.records] == ["s09", "s08", "s07", "s06", "s05"]
    rest = await office.admin.sessions.page(
        RecordFilter(subject="bob"), size=50, page_token=listing.next_page_token
    )
    assert [it.id for it in rest.records] == ["s04", "s03", "s02", "s01", "s00"]
    assert rest.next_page_token == ""


async def test_a_page_reads_a_bounded_part_of_the_store(office: Office) -> None:
    office.store.page_size = 1
    await fill(office, *(record(f"s{n:03}", now=START + n) for n in range(MAX_STORE_PAGES + 5)))
    nobody = RecordFilter(subject="nobody")
    listing = await office.admin.sessions.page(nobody)
    assert listing.records == []
    assert office.store.pages_read == MAX_STORE_PAGES
    # Empty, and not the end.
    assert listing.next_page_token
    rest = await office.admin.sessions.page(nobody, page_token=listing.next_page_token)
    assert (rest.records, rest.next_page_token) == ([], "")


async def test_expired_sessions_are_not_listed(office: Office) -> None:
    await fill(office, record("old"), record("new", now=START + 1))
    office.clock.advance(3600)
    listing = await office.admin.sessions.page(ALL)
    assert [it.id for it in listing.records] == ["new"]
    office.clock.advance(1)
    assert (await office.admin.sessions.page(ALL)).records == []


async def test_a_page_token_goes_with_its_filter(office: Office) -> None:
    await fill(office, *(record(f"s{n}", now=START + n) for n in range(3)))
    token = (await office.admin.sessions.page(ALL, size=1)).next_page_token
    for other in (
        RecordFilter(issuer="idp"),
        RecordFilter(subject="idp"),
        RecordFilter(resource="idp"),
        RecordFilter(id_prefix="idpidp"),
        RecordFilter(authenticated=True),
        RecordFilter(authenticated=False),
    ):
        assert await reason(office.admin, other, page_token=token) is Reason.ARGUMENT_INVALID
        own = (await office.admin.sessions.page(other, size=1)).next_page_token
        assert not own or own != token


@pytest.mark.parametrize("size", [-1, 1001, 2**31 - 1])
async def test_invalid_page_sizes(office: Office, size: int) -> None:
    assert await reason(office.admin, ALL, size=size) is Reason.ARGUMENT_INVALID


async def test_a_short_prefix_is_rejected_with_its_length(office: Office) -> None:
    await fill(office, record("s12345"))
    which = RecordFilter(id_prefix="s1234")
    with pytest.raises(AuthError, match="has at least 6 characters") as caught:
        await office.admin.sessions.page(which)
    assert caught.value.reason is Reason.ARGUMENT_INVALID
    listing = await office.admin.sessions.page(RecordFilter(id_prefix="s12345"))
    assert [it.id for it in listing.records] == ["s12345"]
