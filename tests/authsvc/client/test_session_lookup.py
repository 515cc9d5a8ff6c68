"""Finding the session that an operator means, over a real service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from authsvc.client.session_lookup import MAX_FOUND, ShortPrefixError, find_sessions
from authsvc.server.running import running
from tests.support.clock import Clock
from tests.support.operators import Site, clients, settings, write_tls
from tests.support.tokens import IdentityProvider

pytestmark = pytest.mark.anyio

IDS = (
    *("4fZk0Qe1XMZPlBYKtTUGTg", "4fZk0Qe1", "4fZk0Q77", "B8FIENZwB8FIENZwB8FIEN"),
    *("-Ab3xyzxyzxyzxyzxyzxyz", "--json-session-of-ada", "s1", "s1-more", "cut-in-json\\u2026"),
)


@pytest.fixture
async def site(tmp_path: Path, clock: Clock, idp: IdentityProvider) -> AsyncIterator[Site]:
    tls = write_tls(tmp_path / "tls")
    async with (
        running(settings(tmp_path, tls, idp, "memory"), clock=clock) as address,
        clients(address, tls) as connected,
    ):
        yield connected


async def test_a_session_is_found_by_its_id_or_by_what_logs_show_of_it(
    site: Site, clock: Clock
) -> None:
    for session_id in IDS:
        await site.resolve(session_id)
        clock.advance(1)
    for text, ids, by_prefix, has_more in (
        ("B8FIENZwB8FIENZwB8FIEN", ["B8FIENZwB8FIENZwB8FIEN"], False, False),
        ("B8FIENZw…", ["B8FIENZwB8FIENZwB8FIEN"], True, False),
        (r"B8FIENZw\u2026", ["B8FIENZwB8FIENZwB8FIEN"], True, False),
        (" B8FIENZw\n", ["B8FIENZwB8FIENZwB8FIEN"], True, False),
        ("B8FIEN", ["B8FIENZwB8FIENZwB8FIEN"], True, False),
        ("-Ab3xy", ["-Ab3xyzxyzxyzxyzxyzxyz"], True, False),
        ("--json", ["--json-session-of-ada"], True, False),
        ("4fZk0Q", ["4fZk0Q77", "4fZk0Qe1", "4fZk0Qe1XMZPlBYKtTUGTg"], True, False),
        # A session may have the beginning of another's id.
        ("4fZk0Qe1", ["4fZk0Qe1"], False, True),
        ("4fZk0Qe1…", ["4fZk0Qe1", "4fZk0Qe1XMZPlBYKtTUGTg"], True, False),
        ("4fZk0Q77", ["4fZk0Q77"], False, False),
        ("4fZk0Q77…", ["4fZk0Q77"], True, False),
        ("s1", ["s1"], False, False),
        ("s1…", ["s1"], False, False),
        (r"cut-in-json\u2026", [r"cut-in-json\u2026"], False, False),
        ("b8fienzw", [], True, False),
        ("nothing-begins-so", [], True, False),
        ("x" * 5_000, [], True, False),
        ("with space", [], True, False),
        ("snow\N{SNOWMAN}man", [], True, False),
        ("not-\udcffUnicode", [], True, False),
    ):
        found = await find_sessions(site.operator, text)
        assert [it.id for it in found.records] == ids, text
        assert (found.by_prefix, found.has_more) == (by_prefix, has_more), text
    for text in ("", " ", "…", "s", "s1-mo", "s1-mo…", "-Ab3x", r"s\u2026"):
        with pytest.raises(ShortPrefixError, match="has at least 6 characters"):
            await find_sessions(site.operator, text)


async def test_of_many_that_begin_alike_some_are_found(site: Site) -> None:
    for number in range(MAX_FOUND + 1):
        await site.resolve(f"alike-{number}")
    found = await find_sessions(site.operator, "alike-")
    assert (len(found.records), found.has_more) == (MAX_FOUND, True)
