"""Counts of sessions."""

from __future__ import annotations

import pytest

from authsvc.domain.service_status import SessionCounts
from tests.authsvc.admin.office import Office, fill, record

pytestmark = pytest.mark.anyio


async def test_all_sessions_are_counted_and_none_is_read(office: Office) -> None:
    await fill(office, record("s1"), record("s2", subject=""))
    assert (await office.admin.status.read(count_sessions=True)).sessions == SessionCounts(1, 1, 0)
    assert (office.store.pages_read, office.store.records_read) == (0, 0)
    assert (await office.admin.status.read()).sessions is None
