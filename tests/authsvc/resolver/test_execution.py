"""Carrying out decisions."""

from __future__ import annotations

import pytest

from authsvc.access.limits import CallerLimits
from authsvc.access.usage import Usages
from authsvc.audit.sessions import SessionAudit
from authsvc.domain.decision import Decision, Row
from authsvc.domain.record import Limits
from authsvc.domain.resolution import Outcome
from authsvc.resolver.execution import Execution
from authsvc.resolver.request import Request
from authsvc.stores.memory import MemoryStore
from tests.support.clock import START, Clock
from tests.support.tokens import RESOURCE

pytestmark = pytest.mark.anyio


async def test_a_decision_without_a_record_serves_nobody() -> None:
    """The table makes no such decision."""
    store, clock = MemoryStore(unauthenticated_cap=100), Clock()
    sessions = SessionAudit(Limits(), clock=clock)
    execution = Execution(store, None, Usages(CallerLimits(), clock), sessions)
    decision = Decision(Row.CREATED_WITHOUT_TOKEN, outcome=Outcome.REUSED)
    with pytest.raises(AssertionError, match="has a record"):
        await execution.carry_out(Request("one", "s", None, RESOURCE), decision, None, START)
