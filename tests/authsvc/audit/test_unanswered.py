"""A write whose answer was lost is in the audit: it may have been made."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from authsvc.audit import security
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.revocation_target import TokenTarget
from authsvc.server.assembly import Service, assembled
from authsvc.stores.redis import scripts
from tests.support.clock import Clock
from tests.support.proxy import proxied
from tests.support.service import settings_for, store_settings
from tests.support.shared_valkey import shared_valkey
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

Write = Callable[[], Awaitable[object]]


def events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    """Type, reason and detail of the events so far, which are forgotten."""
    found = [
        tuple(str(it.__dict__[name]) for name in ("event_type", "reason", "detail"))
        for it in caplog.records
        if it.name == security.LOGGER_NAME
    ]
    caplog.clear()
    return [(event_type, reason, detail) for event_type, reason, detail in found]


async def writes_of(service: Service, idp: IdentityProvider, clock: Clock) -> Mapping[str, Write]:
    """Writes that are audited, by the type of their event. What they need is in the store."""
    await service.verifier.refresh(clock())
    resolver = service.resolver
    for name in ("session-1", "session-2"):
        await resolver.resolve(name, idp.token(), resource=RESOURCE, create=True)
    clock.advance(1)
    token = idp.token()
    # Verified, and so known from now on.
    await resolver.resolve("session-3", token, resource=RESOURCE, create=True)
    return {
        "SESSION_CREATED": lambda: resolver.resolve("new", token, resource=RESOURCE, create=True),
        "SESSION_REAUTHENTICATED": lambda: resolver.resolve("session-1", token, resource=RESOURCE),
        "SESSION_REVOKED": lambda: resolver.revoke("session-2"),
        "TOKENS_REVOKED": lambda: service.admin.revocations.revoke(
            TokenTarget(ISSUER, "j1"), caller="one"
        ),
    }


async def test_where_the_connection_broke(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with proxied(shared_valkey().address) as proxy:
        settings = settings_for(
            tmp_path, idp, {**store_settings(tmp_path, "redis"), "url": proxy.url}
        )
        async with assembled(settings, clock) as service:
            writes = dict(await writes_of(service, idp, clock))
            # It may be made twice, and is.
            del writes["TOKENS_REVOKED"]
            caplog.clear()
            for event_type, write in writes.items():
                proxy.lose_answer(scripts.PUT.sha.encode())
                with pytest.raises(AuthError) as caught:
                    await write()
                assert caught.value.reason is Reason.STORE_UNAVAILABLE
                detail = "outcome=unknown: the store: the answer to a write was lost"
                assert events(caplog) == [(event_type, "STORE_UNAVAILABLE", detail)]
                # It was made, and is none again.
                await write()
                assert events(caplog) == []


async def test_where_the_request_ended_first(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """As that of a caller which hangs up once it has asked."""
    caplog.set_level("INFO")
    path = tmp_path / "db"
    settings = settings_for(tmp_path, idp, {"kind": "sqlite", "path": path})
    async with assembled(settings, clock) as service:
        writes = await writes_of(service, idp, clock)
        caplog.clear()
        for event_type, write in writes.items():
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")  # no other write ends
                asked = asyncio.ensure_future(write())
                for _ in range(100):
                    await asyncio.sleep(0)
                asked.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asked
            ((found, reason, detail),) = events(caplog)
            assert (found, reason) == (event_type, "CANCELLED")
            assert detail.startswith("outcome=unknown: the request ended before the answer")


async def test_a_write_that_is_not_made_is_no_event(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = tmp_path / "db"
    settings = settings_for(tmp_path, idp, {"kind": "sqlite", "path": path})
    async with assembled(settings, clock) as service:
        writes = await writes_of(service, idp, clock)
        with closing(sqlite3.connect(path)) as other:
            other.execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON events "
                "BEGIN SELECT RAISE(ABORT, 'refused'); END"
            )
        caplog.clear()
        for write in writes.values():
            with pytest.raises(AuthError, match="refused"):
                await write()
        assert events(caplog) == []
