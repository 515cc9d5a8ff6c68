"""What becomes of sessions is audited: each happening once, by the replica whose write counts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from authsvc.admin.retention import remove_expired
from authsvc.audit import security
from authsvc.audit.admin_actions import MOST_EVENTS
from authsvc.audit.sessions import (
    ANONYMOUS_AT_ONCE,
    ANONYMOUS_PER_SECOND,
    REPORT_SECONDS,
    SessionAudit,
)
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.record import Grant, Limits, Record
from authsvc.rpc.health import HealthServicer
from authsvc.server.assembly import Service, assembled
from authsvc.server.config.store import SHARED_KINDS
from authsvc.server.housekeeping import Housekeeping
from tests.support.clock import START, Clock
from tests.support.service import STORE_KINDS, serving, settings_for, store_settings
from tests.support.shared_valkey import shared_valkey
from tests.support.tokens import ISSUER, OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

LIMITS = Limits()
GRANT = Grant(bytes(32), START, START + 600, "j1", "app1")
OF_ALICE = {"issuer": ISSUER, "subject": "alice", "client_id": "client"}


def record(session_id: str = "0123456789", *, subject: str = "alice", **changes: object) -> Record:
    grants = {RESOURCE: GRANT} if subject else {}
    made = Record(
        session_id,
        1,
        START,
        START,
        START + 50,
        ISSUER if subject else "",
        subject,
        MappingProxyType(grants),
    )
    return replace(made, **changes)  # type: ignore[arg-type] # any field


@pytest.fixture
def audit(clock: Clock, caplog: pytest.LogCaptureFixture) -> SessionAudit:
    caplog.set_level("INFO")
    return SessionAudit(LIMITS, clock=clock)


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Type and detail of the events so far, which are forgotten."""
    found = [
        (str(it.__dict__["event_type"]), str(it.__dict__["detail"]))
        for it in caplog.records
        if it.name == security.LOGGER_NAME
    ]
    caplog.clear()
    return found


USED = "created 2027-01-15T08:00:00+00:00, used 2027-01-15T08:00:00+00:00"


@pytest.mark.parametrize(
    ("ended", "detail"),
    [
        (record(), f"idle; {USED}"),
        (
            record(expire_time=START + LIMITS.absolute_seconds),
            f"reached its absolute limit; {USED}",
        ),
        (
            record(subject="", expire_time=START + 1e9),
            f"removed: too many sessions without a token; {USED}",
        ),
        (
            record(grants=MappingProxyType({RESOURCE: GRANT, OTHER_RESOURCE: GRANT})),
            f"idle; {USED}; 1 more resources",
        ),
        (None, "its record was gone, or is of a later version"),
    ],
)
def test_why_a_session_has_ended(
    ended: Record | None,
    detail: str,
    audit: SessionAudit,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock.advance(LIMITS.absolute_seconds)
    audit.ended("0123456789", ended)
    (event,) = caplog.records
    assert event.__dict__["session"] == "01234567…"
    assert event.__dict__["token_id"] == ("j1" if ended and ended.grants else "")
    assert logged(caplog) == [("SESSION_ENDED", detail)]


def test_the_end_of_a_revoked_session_is_its_revocation(
    audit: SessionAudit, caplog: pytest.LogCaptureFixture
) -> None:
    audit.ended("s", record(revoke_time=START))
    audit.ended("~p", record("~p", revoke_time=START))
    assert logged(caplog) == []
    # A principal session that was used again after its revocation.
    audit.ended("~p", record("~p", revoke_time=START - 1))
    assert [event_type for event_type, _ in logged(caplog)] == ["SESSION_ENDED"]


def test_a_revocation_names_what_it_revoked(
    audit: SessionAudit, caplog: pytest.LogCaptureFixture
) -> None:
    grants = MappingProxyType({RESOURCE: GRANT, OTHER_RESOURCE: GRANT})
    audit.revoked(record(grants=grants), caller="one")
    fields = caplog.records[0].__dict__
    names = ("caller", "resource", "subject", "client_id", "token_id", "detail")
    assert [fields[name] for name in names] == [
        *("one", RESOURCE, "alice", "app1", "j1", "1 more resources")
    ]


def test_sessions_without_a_token_fill_no_disk_and_hide_no_others(
    audit: SessionAudit, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    anonymous, most = record(subject=""), int(ANONYMOUS_AT_ONCE)
    for _ in range(most + 5):
        audit.created(anonymous, resource=RESOURCE, caller="one")
    # Each kind of event takes from one bucket.
    audit.ended("s", anonymous)
    audit.ended("s", None)
    audit.revoked(anonymous, caller="one")
    found = logged(caplog)
    report = ("too many sessions without a token to audit all of them; {} events were not audited",)
    assert found[:most] == [("SESSION_CREATED", "")] * most
    assert found[most:] == [("LIMIT_REACHED", report[0].format(1))]
    for _ in range(1_000):
        audit.created(record(), resource=RESOURCE, caller="one")
    assert len(logged(caplog)) == 1_000
    clock.advance(REPORT_SECONDS - 1)
    audit.report_dropped()
    assert logged(caplog) == []
    clock.advance(1)
    audit.report_dropped()
    audit.report_dropped()
    assert logged(caplog) == [("LIMIT_REACHED", report[0].format(7))]
    clock.advance(1 / ANONYMOUS_PER_SECOND)
    for _ in range(most + 3):
        audit.created(anonymous, resource=RESOURCE, caller="one")
    assert len(logged(caplog)) == most
    audit.close()
    audit.close()
    assert logged(caplog) == [("LIMIT_REACHED", report[0].format(3))]


def test_without_the_setting_revocations_alone_are_audited(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    audit = SessionAudit(LIMITS, enabled=False, clock=clock)
    audit.created(record(), resource=RESOURCE, caller="one")
    audit.reauthenticated(record(), resource=RESOURCE, caller="one")
    audit.ended("s", record())
    audit.ended("s", None)
    audit.revoked(record(), caller="one")
    assert logged(caplog) == [("SESSION_REVOKED", "")]


class Trail:
    """The file of events, from one look to the next."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = 0

    def new(self) -> list[dict[str, str]]:
        """The events since the last call, without what is empty and what every line has."""
        lines = self.path.read_text().splitlines()
        found, self._seen = lines[self._seen :], len(lines)
        ignored = ("timestamp", "level", "logger", "event")
        return [
            {name: text for name, text in json.loads(line).items() if text and name not in ignored}
            for line in found
        ]


@asynccontextmanager
async def replicas(
    folder: Path, clock: Clock, idp: IdentityProvider, store: str, count: int, **changes: object
) -> AsyncIterator[tuple[Trail, list[Service]]]:
    """Services over one store, in this process; their events are in one file."""
    path = folder / "events"
    settings = settings_for(
        folder,
        idp,
        {**store_settings(folder, store), "events_kept": 1_000},
        sessions={"unauthenticated_cap": 2},
        **changes,
    )
    async with AsyncExitStack() as running:
        first = settings.model_copy(update={"audit_file": path})
        made = [
            await running.enter_async_context(assembled(it, clock))
            for it in [first, *[settings] * (count - 1)]
        ]
        for service in made:
            await service.verifier.refresh(clock())
        yield Trail(path), made


async def swept(*services: Service) -> None:
    await asyncio.gather(
        *(remove_expired(it.store, now=it.clock(), limits=LIMITS) for it in services)
    )


@pytest.mark.parametrize("store", STORE_KINDS)
async def test_each_row_of_the_table(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, store: str
) -> None:
    async with replicas(tmp_path, clock, idp, store, 1) as (trail, (service,)):
        resolve = service.resolver.resolve
        origin = {"caller": "one", "resource": RESOURCE, "session": "01234567…"}

        async def asked(
            token: str, session_id: str = "0123456789", *, create: bool = False
        ) -> None:
            await resolve(
                session_id,
                token,
                resource=RESOURCE,
                create=create,
                caller="one",
                client_address="192.0.2.7",
            )

        async def events_of(token: str, *, create: bool = False) -> list[dict[str, str]]:
            await asked(token, create=create)
            found = trail.new()
            assert all(event.pop("client_address") == "192.0.2.7" for event in found)
            return found

        assert await events_of("", create=True) == [{"event_type": "SESSION_CREATED", **origin}]
        assert await events_of("") == []  # row 5
        first = idp.token(jti="j1")
        assert await events_of(first) == [
            {
                "event_type": "SESSION_REAUTHENTICATED",
                "detail": "authenticated for the first time",
                "token_id": "j1",
                **origin,
                **OF_ALICE,
            }
        ]
        assert await events_of(first) == []  # row 8
        clock.advance(10)
        assert await events_of(idp.token(jti="j2")) == [
            {"event_type": "SESSION_REAUTHENTICATED", "token_id": "j2", **origin, **OF_ALICE}
        ]
        assert await events_of(first) == []  # row 11
        assert await events_of("") == []  # row 13
        await service.resolver.revoke("0123456789", caller="one")
        await service.resolver.revoke("0123456789", caller="one")
        revoked = {"event_type": "SESSION_REVOKED", "token_id": "j2", **origin, **OF_ALICE}
        assert trail.new() == [revoked]
        with pytest.raises(AuthError):
            await asked(first)  # row 14
        assert trail.new() == []
        await asked(idp.token("bob", jti="j3"), "another-1", create=True)  # row 2
        await asked(idp.token("bob", jti="j3"), "another-1", create=True)
        (created,) = trail.new()
        assert (created["event_type"], created["subject"]) == ("SESSION_CREATED", "bob")
        clock.advance(LIMITS.authenticated_idle_seconds)
        with pytest.raises(AuthError) as caught:
            await asked("", "another-1")  # row 15
        assert caught.value.reason is Reason.SESSION_EXPIRED
        (ended,) = trail.new()
        assert (ended["event_type"], ended["session"]) == ("SESSION_ENDED", "another-…")
        assert ended["subject"] == "bob"
        assert ended["detail"].startswith("idle; created ")
        await swept(service)  # a tombstone, whose end is no event
        assert trail.new() == []


@pytest.mark.parametrize("store", STORE_KINDS)
async def test_principal_sessions_sweeps_and_the_cap(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, store: str
) -> None:
    async with replicas(tmp_path, clock, idp, store, 1) as (trail, (service,)):

        def types() -> list[tuple[str, str]]:
            return [(it["event_type"], it.get("session", "")[:3]) for it in trail.new()]

        await service.resolver.resolve("", idp.token(), resource=RESOURCE)
        (principal,) = {it["session"][:3] for it in trail.new()}
        assert principal.startswith("~")
        clock.advance(LIMITS.authenticated_idle_seconds)
        await service.resolver.resolve("", idp.token(), resource=RESOURCE)  # it begins anew
        assert types() == [("SESSION_ENDED", principal), ("SESSION_CREATED", principal)]
        for number in range(3):
            clock.advance(1)
            await service.resolver.resolve(
                f"a{number}-anonymous", "", resource=RESOURCE, create=True
            )
        evicted = types()
        assert sorted(evicted) == [
            *(("SESSION_CREATED", f"a{number}-") for number in range(3)),
            ("SESSION_ENDED", "a0-"),
        ]
        clock.advance(LIMITS.authenticated_idle_seconds)
        await swept(service)
        assert sorted(types()) == [
            *(("SESSION_ENDED", name) for name in ("a1-", "a2-", principal)),
        ]


@pytest.mark.parametrize("store", SHARED_KINDS)
async def test_replicas_audit_each_happening_once(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, store: str
) -> None:
    async with replicas(tmp_path, clock, idp, store, 3) as (trail, services):
        names, token = [f"s{number:02}-of-alice" for number in range(20)], idp.token()

        async def everywhere(*, create: bool = False) -> None:
            await asyncio.gather(
                *(
                    service.resolver.resolve(name, token, resource=RESOURCE, create=create)
                    for name in names
                    for service in services
                )
            )

        def counts(event_type: str) -> list[str]:
            found = trail.new()
            assert {it["event_type"] for it in found} == {event_type}
            return sorted(it["session"] for it in found)

        each = [f"{name[:8]}…" for name in names]
        await everywhere(create=True)
        assert counts("SESSION_CREATED") == each
        clock.advance(10)
        token = idp.token()
        await everywhere()
        assert counts("SESSION_REAUTHENTICATED") == each
        clock.advance(LIMITS.authenticated_idle_seconds)
        await asyncio.gather(
            *(
                service.resolver.resolve(name, "", resource=RESOURCE)
                for name in names[:10]
                for service in services
            ),
            return_exceptions=True,
        )
        assert counts("SESSION_ENDED") == each[:10]
        await swept(*services)
        assert counts("SESSION_ENDED") == each[10:]


@pytest.mark.parametrize("streams", [True, False])
async def test_over_rpc(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, *, streams: bool
) -> None:
    settings = settings_for(tmp_path, idp, audit_file=tmp_path / "events")
    async with serving(settings, clock, streams=streams) as service:
        await service.client.resolve("0123456789", idp.token(), resource=RESOURCE, create=True)
        clock.advance(1)
        await service.client.resolve("0123456789", idp.token(), resource=RESOURCE)
        await service.client.create(idp.token(), resource=RESOURCE)
        await service.client.revoke("0123456789")
    types = [it["event_type"] for it in Trail(tmp_path / "events").new()]
    assert types == [
        *("SERVICE_STARTED", "SESSION_CREATED", "SESSION_REAUTHENTICATED", "SESSION_CREATED"),
        "SESSION_REVOKED",
    ]


async def test_the_log_has_them_where_no_file_is_set_or_the_file_is_full(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    in_log = {}
    cases: dict[str, dict[str, Any]] = {
        "no file": {},
        "a file": {"audit_file": tmp_path / "events"},
        "a full disk": {"audit_file": Path("/dev/full")},
        "no sessions": {"audit": {"sessions": False}},
    }
    for name, changes in cases.items():
        caplog.clear()
        async with assembled(settings_for(tmp_path, idp, **changes), clock) as service:
            await service.resolver.resolve("s", idp.token(), resource=RESOURCE, create=True)
            await service.resolver.revoke("s")
            counts = dict(service.metrics.audited_events)
        in_log[name] = [event_type for event_type, _ in logged(caplog)], counts
    both = ["SESSION_CREATED", "SESSION_REVOKED"]
    assert in_log == {
        "no file": (both, {}),
        "a file": (["SESSION_REVOKED"], {"written": 2, "failed": 0}),
        "a full disk": (both, {"written": 0, "failed": 2}),
        "no sessions": (["SESSION_REVOKED"], {}),
    }


async def test_what_was_counted_is_reported_periodically(
    tmp_path: Path, clock: Clock, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    settings = settings_for(tmp_path, idp)
    async with assembled(settings, clock, clock) as service:
        for _ in range(int(ANONYMOUS_AT_ONCE) + 3):
            service.session_audit.created(record(subject=""), resource=RESOURCE, caller="one")
        for _ in range(MOST_EVENTS + 3):
            service.admin.actions.acted("ListSessions", caller="one", peer="unix:", request=b"")
        caplog.clear()
        clock.advance(REPORT_SECONDS)
        await Housekeeping(service, HealthServicer.__new__(HealthServicer), settings)._sweep()
        assert [event_type for event_type, _ in logged(caplog)] == ["LIMIT_REACHED", "ADMIN_ACTION"]


async def test_a_record_that_the_server_has_dropped(
    tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> None:
    """No authsvc has run for so long that the TTL of its key has passed."""
    async with replicas(tmp_path, clock, idp, "redis", 1) as (trail, (service,)):
        token = idp.token(jti="j1")
        await service.resolver.resolve("0123456789", token, resource=RESOURCE, create=True)
        trail.new()
        prefix = str(service.store._store._partitions.first.base)  # type: ignore[attr-defined]
        with shared_valkey().client() as client:
            assert client.delete(f"{prefix}:s:0123456789") == 1
        clock.advance(LIMITS.authenticated_idle_seconds)
        await swept(service)
        await swept(service)
        assert trail.new() == [
            {
                "event_type": "SESSION_ENDED",
                "session": "01234567…",
                "detail": "its record was gone, or is of a later version",
            }
        ]
