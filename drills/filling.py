"""Sessions of others in the store: it is as large as in an installation that is in use."""

from __future__ import annotations

import asyncio
import secrets
import time

from authsvc.common.settings import load
from authsvc.domain.events import EventType
from authsvc.domain.record import Grant, Limits, Record
from authsvc.domain.tokens import token_digest
from authsvc.server.config import Settings
from authsvc.server.stores import open_store
from chaos.identity import ISSUER, RESOURCE
from drills.stage import WAIT_SECONDS, Stage

_WRITES_AT_ONCE = 200


async def fill(stage: Stage, count: int) -> None:
    """Store sessions, authenticated, beside the replicas.

    Args:
        stage: whose store it is.
        count: of sessions, each of another subject.

    Raises:
        AuthError: the store takes no more.
    """
    settings = load(Settings, stage.replicas[0].config)
    now = time.time()
    token = token_digest("a token that nobody has")
    grants = {RESOURCE: Grant(token, now, now + 3_600, "", "drill")}
    expire_time = now + Limits().authenticated_idle_seconds
    patient = settings.store.model_copy(update={"timeout_seconds": WAIT_SECONDS})
    store = await open_store(settings.model_copy(update={"store": patient}))
    try:
        for first in range(0, count, _WRITES_AT_ONCE):
            numbers = range(first, min(first + _WRITES_AT_ONCE, count))
            records = [
                Record(
                    *(secrets.token_urlsafe(16), 1, now, now, expire_time),
                    *(ISSUER, f"somebody-{number}", grants),
                )
                for number in numbers
            ]
            await asyncio.gather(*(store.put(record, EventType.CREATED) for record in records))
    finally:
        await store.close()
