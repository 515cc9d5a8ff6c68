"""Counts of sessions."""

from __future__ import annotations

import pytest

from authsvc.domain.service_status import SessionCounts
from tests.authsvc.admin.office import Office, fill, record

pytestmark = pytest.mark.anyio


async def test_counts_report_that_they_are_truncated(office: Office) -> None:
    await fill(office, record("s1"), record("s2", subject=""))
    assert (await office.admin.status.read(count_sessions=True)).sessions == SessionCounts(1, 1, 0)
    office.store.page_size = 1
    counts = (await office.admin.status.read(count_sessions=True)).sessions
    assert counts is not None
    assert counts.truncated
