"""Removal of expired data."""

from __future__ import annotations

import pytest

from authsvc.admin.retention import NOT_BEFORES_MARGIN_SECONDS, remove_expired
from authsvc.domain.record import Limits
from authsvc.domain.revocation_target import SubjectTarget
from tests.authsvc.admin.office import Office, fill, record
from tests.support.clock import START

pytestmark = pytest.mark.anyio


async def test_expired_data_is_removed(office: Office) -> None:
    limits = Limits(not_befores_kept_seconds=1_000)
    await fill(office, record("s"))
    await office.admin.revocations.revoke(SubjectTarget("idp", "alice"), caller="op")
    margin = NOT_BEFORES_MARGIN_SECONDS
    for now, kept in ((3_599.0, True), (3_600.0, False)):
        await remove_expired(office.store, now=START + now, limits=limits)
        assert (await office.store.get("s") is not None) is kept
    # Its tokens have expired by then, by any clock.
    for now, kept in ((1_000.0 + margin, True), (1_000.5 + margin, False)):
        await remove_expired(office.store, now=START + now, limits=limits)
        assert (len(await office.store.get_not_befores([("idp", "alice", "", "")])) == 1) is kept
