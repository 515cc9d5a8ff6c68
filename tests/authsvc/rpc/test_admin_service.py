"""``SessionAdminService`` through gRPC, on every store; and the callers that it denies."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from authsvc.admin.checks import MAX_TEXT_LENGTH
from authsvc.admin.watches import MAX_WATCHERS
from authsvc.audit.admin_actions import MOST_EVENTS
from authsvc.client import AuthClient, ClientTls
from authsvc.domain.errors import Reason
from authsvc.domain.events import EventType, RecordFilter, state_of
from authsvc.domain.record import Record
from authsvc.domain.resolution import Outcome
from authsvc.domain.revocation import END_OF_TIME
from authsvc.server.config import Settings
from authsvc.server.running import running
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START, Clock
from tests.support.http import Answer, serving_http
from tests.support.operators import (
    SERVICE_TOKENS,
    WAIT_SECONDS,
    Raw,
    Site,
    clients,
    reason,
    settings,
    stub,
    taken,
    write_tls,
)
from tests.support.service import STORE_KINDS
from tests.support.tokens import ISSUER, OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=STORE_KINDS)
async def site(
    request: pytest.FixtureRequest, tmp_path: Path, tls: Path, clock: Clock, idp: IdentityProvider
) -> AsyncIterator[Site]:
    async with (
        running(settings(tmp_path, tls, idp, request.param), clock=clock) as address,
        clients(address, tls) as connected,
    ):
        yield connected


# Getting and listing.


async def test_a_session_is_shown_without_its_tokens(
    site: Site, idp: IdentityProvider, clock: Clock
) -> None:
    token = idp.token(jti="j1")
    await site.resolve("s", token)
    await site.resolve("s", idp.token(aud=OTHER_RESOURCE), resource=OTHER_RESOURCE)
    shown = await site.operator.get("s")
    assert (shown.id, shown.issuer, shown.subject) == ("s", ISSUER, "alice")
    assert (shown.revision, shown.create_time, shown.last_seen_time) == (2, START, START)
    assert shown.expire_time == START + 86400
    assert shown.revoke_time is None
    grant = shown.grants[RESOURCE]
    assert (grant.token_id, grant.client_id) == ("j1", "client")
    assert (grant.issue_time, grant.expire_time) == (START, START + 600)
    assert set(shown.grants) == {RESOURCE, OTHER_RESOURCE}
    async with site.stub("operator") as raw:
        answer = await raw.admin.GetSession(
            pb.GetSessionRequest(session_id="s"), metadata=raw.metadata, timeout=WAIT_SECONDS
        )
    told = answer.SerializeToString()
    assert not any(part.encode() in told for part in token.split("."))
    assert hashlib.sha256(token.encode()).digest() not in told


async def test_the_state_is_that_of_the_record(site: Site, idp: IdentityProvider) -> None:
    await site.resolve("anonymous")
    await site.resolve("owned", idp.token())
    await site.resolve("owned")  # row 13: without a token, and without the session's identity
    assert not (await site.operator.get("anonymous")).authenticated
    assert (await site.operator.get("owned")).authenticated
    async with site.stub("operator") as raw:
        for session_id, state in (
            ("anonymous", pb.SESSION_STATE_UNAUTHENTICATED),
            ("owned", pb.SESSION_STATE_AUTHENTICATED),
        ):
            answer = await raw.admin.GetSession(
                pb.GetSessionRequest(session_id=session_id),
                metadata=raw.metadata,
                timeout=WAIT_SECONDS,
            )
            assert answer.session.session.state == state


async def test_an_unknown_session_is_not_found(
    site: Site, idp: IdentityProvider, clock: Clock
) -> None:
    await site.resolve("s", idp.token())
    for session_id in ("", "unknown", "~unknown", "x" * 5_000, "with space", "é"):
        assert await reason(site.operator.get(session_id)) is Reason.SESSION_NOT_FOUND
    clock.advance(86400)
    assert await reason(site.operator.get("s")) is Reason.SESSION_NOT_FOUND
    assert await site.listed() == []


async def test_a_revoked_session_is_shown_until_its_tombstone_expires(
    site: Site, idp: IdentityProvider, clock: Clock
) -> None:
    await site.resolve("s", idp.token())
    clock.advance(5)
    await site.server.revoke("s")
    assert (await site.operator.get("s")).revoke_time == START + 5
    assert await site.listed() == ["s"]
    clock.advance(86400)
    assert await site.listed() == []


async def test_a_principal_session_accepts_new_tokens_after_its_revocation(
    site: Site, idp: IdentityProvider, clock: Clock
) -> None:
    created = (await site.resolve("", idp.token())).session
    assert created is not None
    clock.advance(5)
    await site.server.revoke(created.id)
    assert (await site.operator.get(created.id)).revoke_time == START + 5
    clock.advance(5)
    await site.resolve("", idp.token())
    assert (await site.operator.get(created.id)).revoke_time is None


async def test_sessions_are_listed_newest_first_page_by_page(
    site: Site, idp: IdentityProvider, clock: Clock
) -> None:
    names = []
    for number in range(7):
        names.append(f"s{number}")
        await site.resolve(names[-1], idp.token())
        clock.advance(1)
    for page_size in (0, 1, 2, 3, 7, 1000):
        assert await site.listed(page_size=page_size) == names[::-1]


async def test_filters(site: Site, idp: IdentityProvider, clock: Clock) -> None:
    await site.resolve("anonymous")
    for name in ("alice", "bob"):
        clock.advance(1)
        await site.resolve(name, idp.token(name))
    await site.resolve("bob", idp.token("bob", aud=OTHER_RESOURCE), resource=OTHER_RESOURCE)
    for which, expected in (
        (RecordFilter(), ["bob", "alice", "anonymous"]),
        (RecordFilter(issuer=ISSUER), ["bob", "alice"]),
        (RecordFilter(subject="alice"), ["alice"]),
        (RecordFilter(issuer=ISSUER, subject="bob"), ["bob"]),
        (RecordFilter(issuer="https://else.example", subject="bob"), []),
        (RecordFilter(authenticated=False), ["anonymous"]),
        (RecordFilter(authenticated=True), ["bob", "alice"]),
        (RecordFilter(resource=OTHER_RESOURCE), ["bob"]),
        (RecordFilter(subject="alice", resource=OTHER_RESOURCE), []),
        (RecordFilter(id_prefix="anonym"), ["anonymous"]),
    ):
        assert await site.listed(which) == expected


async def test_invalid_list_requests(site: Site, idp: IdentityProvider) -> None:
    for number in range(3):
        await site.resolve(f"s{number}", idp.token())
    async with site.stub("operator") as raw:

        async def listing(**fields: object) -> pb.ListSessionsResponse:
            return await raw.admin.ListSessions(
                pb.ListSessionsRequest(**fields),  # type: ignore[arg-type] # any field
                metadata=raw.metadata,
                timeout=WAIT_SECONDS,
            )

        token = (await listing(page_size=1)).next_page_token
        alice = pb.SessionFilter(subject="alice")
        assert len((await listing(page_size=1, page_token=token)).sessions) == 1
        for fields in (
            {"page_size": -1},
            {"page_size": 1001},
            {"page_token": "rubbish"},
            {"page_token": token[:8]},
            {"page_token": token, "filter": alice},
            {"filter": pb.SessionFilter(state=pb.SessionState.ValueType(9))},
            {"filter": pb.SessionFilter(subject="x" * (MAX_TEXT_LENGTH + 1))},
            {"filter": pb.SessionFilter(session_id_prefix="s1234")},
        ):
            with pytest.raises(aio.AioRpcError) as caught:
                await listing(**fields)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


# Revoking.


async def test_the_beginning_of_an_id_revokes_nothing(site: Site, idp: IdentityProvider) -> None:
    token = idp.token()
    await site.resolve("the-session", token)
    assert (await site.operator.revoke_session("the-ses")).session_count == 0
    assert await reason(site.operator.revoke_session("the-ses…")) is Reason.SESSION_ID_INVALID
    assert await site.refusal("the-session", token) is None


async def test_a_revoked_token_is_rejected_everywhere(
    site: Site, idp: IdentityProvider, clock: Clock
) -> None:
    stolen = idp.token("alice", jti="j1", aud=[RESOURCE, OTHER_RESOURCE])
    never_seen = idp.token("alice", jti="j2", aud=[RESOURCE, OTHER_RESOURCE])
    bobs = idp.token("bob")
    await site.resolve("s", stolen)
    await site.resolve("", stolen)
    await site.resolve("bobs", bobs)
    before = await site.operator.get("s")

    revoked = await site.operator.revoke_subject(ISSUER, "alice")
    assert revoked.session_count == 2
    for token in (stolen, never_seen):
        for session_id in ("s", "another", ""):
            for resource in (RESOURCE, OTHER_RESOURCE):
                why = await site.refusal(session_id, token, resource=resource)
                assert why is Reason.TOKEN_REVOKED
        why = await reason(site.server.create(token, resource=RESOURCE))
        assert why is Reason.TOKEN_REVOKED
    # A rejected token changes no session, and other subjects are not affected.
    marked = {name: replace(it, token_revoked=True) for name, it in before.grants.items()}
    assert await site.operator.get("s") == replace(before, grants=marked)
    assert await reason(site.operator.get("another")) is Reason.SESSION_NOT_FOUND
    assert (await site.resolve("bobs", bobs)).outcome is Outcome.REUSED

    clock.advance(1)
    fresh = idp.token("alice")
    assert (await site.resolve("s", fresh)).outcome is Outcome.REAUTHENTICATED
    assert (await site.resolve("", fresh)).outcome is Outcome.REAUTHENTICATED
    assert await site.refusal("s", stolen) is Reason.TOKEN_REVOKED
    assert (await site.resolve("s", fresh)).outcome is Outcome.REUSED


async def test_sessions_say_whose_tokens_were_revoked_until_they_have_a_later_one(
    site: Site, idp: IdentityProvider, clock: Clock
) -> None:
    names = ("alice", "bob", "carol")
    for name in names:
        await site.resolve(name, idp.token(name))
    await site.resolve("bob", idp.token("bob", aud=OTHER_RESOURCE, jti="j2"),
                       resource=OTHER_RESOURCE)  # fmt: skip

    async def states() -> list[str]:
        found = {it.id: state_of(it) async for it in site.operator.list()}
        for name in names:
            assert state_of(await site.operator.get(name)) is found[name]
        return [found[name].value for name in names]

    assert await states() == ["authenticated"] * 3
    await site.operator.revoke_token(ISSUER, "j2")
    bobs = (await site.operator.get("bob")).grants
    assert {name: it.token_revoked for name, it in bobs.items()} == {
        RESOURCE: False,
        OTHER_RESOURCE: True,
    }
    await site.operator.revoke_subject(ISSUER, "alice")
    assert await states() == ["tokens revoked", "authenticated", "authenticated"]
    await site.operator.revoke_everyone()
    assert await states() == ["tokens revoked"] * 3
    clock.advance(1)
    await site.resolve("alice", idp.token("alice"))
    await site.resolve("bob", idp.token("bob"))
    assert await states() == ["authenticated", "authenticated", "tokens revoked"]
    await site.server.revoke("carol")
    assert await states() == ["authenticated", "authenticated", "revoked"]


async def test_one_token_is_revoked_by_its_id(
    site: Site, idp: IdentityProvider, clock: Clock
) -> None:
    stolen, other = idp.token(jti="j1"), idp.token(jti="j2")
    await site.resolve("s", stolen)
    revoked = await site.operator.revoke_token(ISSUER, "j1")
    assert revoked.session_count is None
    assert await site.refusal("s", stolen) is Reason.TOKEN_REVOKED
    assert (await site.resolve("t", other)).outcome is Outcome.CREATED
    # Whenever it was issued: a later token with the same id is the same token.
    clock.advance(60)
    assert await site.refusal("s", idp.token(jti="j1")) is Reason.TOKEN_REVOKED
    assert (await site.resolve("s", idp.token(jti="j3"))).outcome is Outcome.REAUTHENTICATED


async def test_everything_issued_up_to_a_time_is_revoked(
    site: Site, idp: IdentityProvider, clock: Clock
) -> None:
    tokens = []
    for name in ("alice", "bob", "carol"):
        tokens.append(idp.token(name))
        await site.resolve(name, tokens[-1])
        clock.advance(10)
    revoked = await site.operator.revoke_everyone(before_time=START + 10)
    assert revoked.session_count is None
    refusals = [
        await site.refusal(name, token)
        for name, token in zip(("alice", "bob", "carol"), tokens, strict=True)
    ]
    assert refusals == [Reason.TOKEN_REVOKED, Reason.TOKEN_REVOKED, None]
    await site.operator.revoke_everyone()
    assert await site.refusal("carol", tokens[2]) is Reason.TOKEN_REVOKED


async def test_the_later_not_before_is_in_force(
    site: Site, idp: IdentityProvider, clock: Clock
) -> None:
    token = idp.token()
    await site.resolve("s", token)
    clock.advance(5)
    assert (await site.operator.revoke_subject(ISSUER, "alice")).session_count == 1
    for before_time in (START - 100, START + 1, None):
        await site.operator.revoke_subject(ISSUER, "alice", before_time=before_time)
        assert await site.refusal("s", token) is Reason.TOKEN_REVOKED


async def test_sessions_are_counted_that_held_such_a_token(
    site: Site, idp: IdentityProvider, clock: Clock
) -> None:
    await site.resolve("old", idp.token())
    await site.resolve("ended", idp.token())
    await site.server.revoke("ended")
    clock.advance(10)
    await site.resolve("new", idp.token())
    await site.resolve("bobs", idp.token("bob"))
    for before_time, count in ((START - 1, 0), (START, 1), (START + 9, 1), (None, 2)):
        revoked = await site.operator.revoke_subject(ISSUER, "alice", before_time=before_time)
        assert revoked.session_count == count
    assert (await site.operator.revoke_subject(ISSUER, "nobody")).session_count == 0


async def test_an_issuer_whose_clock_is_ahead(
    site: Site, idp: IdentityProvider, clock: Clock
) -> None:
    ahead = idp.token(iat=clock.now + 20)
    await site.resolve("s", ahead)
    await site.operator.revoke_subject(ISSUER, "alice")
    assert await site.refusal("s", ahead) is Reason.TOKEN_REVOKED
    assert await site.refusal("s", idp.token(iat=clock.now + 19)) is Reason.TOKEN_REVOKED
    assert await site.refusal("s", idp.token(iat=clock.now + 21)) is None


async def test_a_token_stays_rejected_after_its_not_before_is_deleted(
    tmp_path: Path, tls: Path, idp: IdentityProvider, clock: Clock
) -> None:
    kept = {"revocations": {"retention_seconds": 1_000}}
    values = settings(tmp_path, tls, idp, "memory")
    values = Settings.model_validate({**values.model_dump(exclude_unset=True), **kept})
    async with running(values, clock=clock) as address, clients(address, tls) as site:
        token = idp.token(ttl_seconds=1e6)
        await site.resolve("s", token)
        await site.operator.revoke_subject(ISSUER, "alice")
        clock.advance(1_000)
        assert await site.refusal("s", token) is Reason.TOKEN_REVOKED
        # From here on the not-before may be deleted: every token of that age has expired.
        bobs = idp.token("bob", iat=START, ttl_seconds=1e6)
        assert await site.refusal("bobs", bobs) is None
        clock.advance(1)
        assert await site.refusal("bobs", bobs) is Reason.TOKEN_EXPIRED


async def test_an_opaque_token_is_revoked_like_any_other(
    tmp_path: Path, tls: Path, idp: IdentityProvider, clock: Clock
) -> None:
    values = settings(tmp_path, tls, idp, "memory")
    (tmp_path / "client-secret").write_text("hush")
    with serving_http() as issuer:
        introspected = {
            "issuer": "https://opaque.example",
            "endpoint": f"{issuer.url}/introspect",
            "client_id": "authsvc",
            "client_secret_file": tmp_path / "client-secret",
        }
        values = Settings.model_validate(
            {**values.model_dump(exclude_unset=True), "introspection": introspected}
        )
        async with running(values, clock=clock) as address, clients(address, tls) as site:

            def says(**claims: object) -> None:
                said = {"active": True, "sub": "alice", "aud": RESOURCE, "exp": START + 600}
                issuer.answers["/introspect"] = Answer(json.dumps({**said, **claims}).encode())

            says(jti="j1", iat=START)
            await site.resolve("s", "opaque-1")
            await site.operator.revoke_token("https://opaque.example", "j1")
            assert await site.refusal("s", "opaque-1") is Reason.TOKEN_REVOKED
            says(jti="j2", iat=START)
            await site.resolve("s", "opaque-2")
            await site.operator.revoke_subject("https://opaque.example", "alice")
            assert await site.refusal("", "opaque-2") is Reason.TOKEN_REVOKED
            # Its time of issue is unknown: it may have been issued before.
            says(jti="j3")
            assert await site.refusal("s", "opaque-3") is Reason.TOKEN_REVOKED
            clock.advance(1)
            says(jti="j4", iat=START + 1)
            assert await site.refusal("s", "opaque-4") is None


async def test_invalid_revocations(site: Site, idp: IdentityProvider, clock: Clock) -> None:
    token = idp.token(jti="j1")
    await site.resolve("s", token)
    request = pb.RevokeSessionsRequest
    everyone = request.EveryoneTarget()
    alice = request.SubjectTarget(issuer=ISSUER, subject="alice")
    long = "x" * (MAX_TEXT_LENGTH + 1)
    async with site.stub("operator") as raw:
        for wrong in (
            request(),
            request(subject=request.SubjectTarget()),
            request(subject=request.SubjectTarget(issuer=ISSUER)),
            request(subject=request.SubjectTarget(subject="alice")),
            request(subject=request.SubjectTarget(issuer=ISSUER, subject=long)),
            request(subject=request.SubjectTarget(issuer=long, subject="alice")),
            request(subject=alice, before_time=timestamp(clock.now + 1)),
            request(everyone=everyone, before_time=timestamp(clock.now + 1)),
            request(everyone=everyone, before_time=timestamp(-1)),
            request(everyone=everyone, before_time=Timestamp(seconds=1, nanos=-1)),
            request(token=request.TokenTarget()),
            request(token=request.TokenTarget(issuer=ISSUER)),
            request(token=request.TokenTarget(token_id="j1")),
            request(token=request.TokenTarget(issuer=ISSUER, token_id=long)),
            request(token=request.TokenTarget(issuer=f"{ISSUER}/", token_id="j1")),
            request(subject=request.SubjectTarget(issuer=f"{ISSUER}/", subject="alice")),
            request(
                subject=request.SubjectTarget(issuer="", subject="alice"),
                allow_unknown_issuer=True,
            ),
            request(
                token=request.TokenTarget(issuer=ISSUER, token_id="j1"),
                before_time=timestamp(clock.now),
            ),
        ):
            with pytest.raises(aio.AioRpcError) as caught:
                await raw.admin.RevokeSessions(wrong, metadata=raw.metadata, timeout=WAIT_SECONDS)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await site.refusal("s", token) is None


async def test_an_issuer_that_is_no_longer_configured_is_revoked_on_request(site: Site) -> None:
    gone = "https://gone.example"
    assert await reason(site.operator.revoke_subject(gone, "alice")) is Reason.ARGUMENT_INVALID
    assert await reason(site.operator.revoke_token(gone, "j1")) is Reason.ARGUMENT_INVALID
    revoked = await site.operator.revoke_subject(gone, "alice", allow_unknown_issuer=True)
    assert revoked.session_count == 0
    await site.operator.revoke_token(gone, "j1", allow_unknown_issuer=True)


def admin_actions(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What ``ADMIN_ACTION`` says before the address so far, which is forgotten."""
    found = [
        str(record.__dict__["detail"]).partition("; from ")[0]
        for record in caplog.records
        if record.__dict__.get("event_type") == "ADMIN_ACTION"
    ]
    caplog.clear()
    return found


async def test_a_command_is_one_event(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for number in range(11):
        await site.resolve(f"session-{number}")
    assert len(await site.listed(page_size=1)) == 11
    assert admin_actions(caplog) == ["ListSessions"]
    # A page token of another connection: it has not begun with the first page.
    page = await site.operator.page(page_size=1)
    async with site.operator.watching() as events:
        await site.resolve("new")
        (watched,) = await taken(events, 1)
    assert admin_actions(caplog) == ["ListSessions", "WatchSessions"]
    async with site.stub("operator") as raw:
        for _ in range(3):
            await raw.admin.ListSessions(
                pb.ListSessionsRequest(page_token=page.next_page_token, page_size=1),
                metadata=raw.metadata,
                timeout=WAIT_SECONDS,
            )
        # A loop is counted. It does not hide a watch from another position, which may be made up.
        for resume_token in ("", *[watched.resume_token] * 30, "0"):
            request = pb.WatchSessionsRequest(resume_token=resume_token)
            call = raw.admin.WatchSessions(request, metadata=raw.metadata, timeout=WAIT_SECONDS)
            await call.initial_metadata()
            call.cancel()
    resumed = ["WatchSessions; resumed"] * (MOST_EVENTS + 1)
    assert admin_actions(caplog) == ["ListSessions", "WatchSessions", *resumed]
    for session_id in ("session-1", "session-2"):
        await site.operator.get(session_id)
    assert admin_actions(caplog) == ["GetSession"] * 2


def timestamp(seconds: float) -> Timestamp:
    return Timestamp(seconds=int(seconds))


async def test_a_revocation_is_audited(
    site: Site, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await site.operator.revoke_subject(ISSUER, "alice")
    await site.operator.revoke_token(ISSUER, "j1")
    await site.operator.revoke_everyone()
    events = [record.__dict__ for record in caplog.records if record.name == "authsvc.security"]
    told = [
        (event["caller"], event["issuer"], event["subject"], event["token_id"], event["detail"])
        for event in events
        if event["event_type"] == "TOKENS_REVOKED"
    ]
    assert told == [
        ("operator", ISSUER, "alice", "", "issued up to 2027-01-15T08:00:00+00:00"),
        ("operator", ISSUER, "", "j1", "issued up to 9999-12-31T23:59:59+00:00"),
        ("operator", "", "", "", "everyone's issued up to 2027-01-15T08:00:00+00:00"),
    ]
    acts = [event for event in events if event["event_type"] == "ADMIN_ACTION"]
    assert [event["detail"].partition(";")[0] for event in acts] == ["RevokeSessions"] * 3


# Watching.


async def test_a_watch_streams_events(site: Site, idp: IdentityProvider, clock: Clock) -> None:
    await site.resolve("before")
    async with site.operator.watching() as events:
        await site.resolve("s")
        clock.advance(1)
        await site.resolve("s", idp.token("alice"))
        assert await site.refusal("s", idp.token("mallory")) is Reason.SESSION_SUBJECT_MISMATCH
        clock.advance(1)
        await site.server.revoke("s")
        of_s = [it.event for it in await taken(events, 4)]
        await site.operator.revoke_subject(ISSUER, "alice", before_time=START)
        await site.operator.revoke_token(ISSUER, "j1")
        await site.operator.revoke_everyone(before_time=START)
        revoked = [it.event for it in await taken(events, 3)]
    assert [event.type for event in of_s] == [
        EventType.CREATED,
        EventType.REAUTHENTICATED,
        EventType.SUBJECT_MISMATCH,
        EventType.REVOKED,
    ]
    assert [event.time for event in of_s] == [START, START + 1, START + 1, START + 2]
    assert [_subject(event.record) for event in of_s] == ["", "alice", "alice", "alice"]
    assert of_s[3].record is not None
    assert of_s[3].record.revoke_time == START + 2
    assert all(event.type is EventType.TOKENS_REVOKED for event in revoked)
    not_befores = [event.not_before for event in revoked]
    assert [it and (it.key, it.time) for it in not_befores] == [
        ((ISSUER, "alice", "", ""), START),
        ((ISSUER, "", "j1", ""), END_OF_TIME),
        (("", "", "", ""), START),
    ]


def _subject(record: Record | None) -> str:
    assert record is not None
    return record.subject


async def test_a_watch_is_resumed_without_loss(site: Site) -> None:
    async with site.operator.watching() as events:
        for number in range(4):
            await site.resolve(f"s{number}")
        seen = await taken(events, 4)
    for number in range(4, 6):
        await site.resolve(f"s{number}")
    expected = {f"s{number}" for number in range(6)}
    for resumed_after in range(4):
        token = seen[resumed_after].resume_token
        already = {it.event.record.id for it in seen[: resumed_after + 1] if it.event.record}
        async with site.operator.watching(resume_token=token) as events:
            rest = await taken(events, 6 - len(already))
        told = {it.event.record.id for it in rest if it.event.record}
        assert already | told == expected
        assert not already & told


async def test_a_watch_is_filtered(site: Site, idp: IdentityProvider) -> None:
    which = RecordFilter(issuer=ISSUER, subject="alice")
    async with site.operator.watching(which) as events:
        await site.resolve("anonymous")
        await site.resolve("bobs", idp.token("bob"))
        await site.operator.revoke_subject(ISSUER, "bob", before_time=START - 1)
        await site.operator.revoke_subject(
            "https://else.example", "alice", before_time=START - 1, allow_unknown_issuer=True
        )
        await site.resolve("alices", idp.token("alice"))
        (first,) = await taken(events, 1)
        assert first.event.record is not None
        assert first.event.record.id == "alices"
        # Any of these may be about alice's tokens.
        await site.operator.revoke_subject(ISSUER, "alice", before_time=START - 1)
        await site.operator.revoke_token(ISSUER, "j1")
        await site.operator.revoke_everyone(before_time=START - 1)
        keys = [it.event.not_before.key for it in await taken(events, 3) if it.event.not_before]
        assert keys == [(ISSUER, "alice", "", ""), (ISSUER, "", "j1", ""), ("", "", "", "")]


async def test_invalid_watch_requests(site: Site) -> None:
    async def watched(which: RecordFilter, resume_token: str = "") -> None:
        async with site.operator.watching(which, resume_token=resume_token) as events:
            await taken(events, 1)

    too_long = RecordFilter(subject="x" * (MAX_TEXT_LENGTH + 1))
    assert await reason(watched(too_long)) is Reason.ARGUMENT_INVALID
    for token in ("rubbish", "-1", "٣", "1-", "x" * 10_000):
        assert await reason(watched(RecordFilter(), token)) is Reason.ARGUMENT_INVALID


async def test_watches_are_bounded_and_freed_when_they_end(site: Site) -> None:
    async with site.stub("operator") as raw:

        def watch() -> aio.UnaryStreamCall[pb.WatchSessionsRequest, pb.WatchSessionsResponse]:
            return raw.admin.WatchSessions(pb.WatchSessionsRequest(), metadata=raw.metadata)

        calls = [watch() for _ in range(MAX_WATCHERS)]
        async with asyncio.timeout(WAIT_SECONDS):
            await asyncio.gather(*(call.initial_metadata() for call in calls))
            one_more = watch()
            with pytest.raises(aio.AioRpcError) as caught:
                await one_more.read()
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            calls[0].cancel()
            # The server notices it later.
            while True:
                again = watch()
                await again.initial_metadata()
                if not again.done():
                    break
                await asyncio.sleep(0)
        for call in (*calls, again):
            call.cancel()


async def test_a_stop_ends_a_watch(
    tmp_path: Path, tls: Path, idp: IdentityProvider, clock: Clock
) -> None:
    async with asyncio.timeout(WAIT_SECONDS), AsyncExitStack() as stack:
        async with running(settings(tmp_path, tls, idp, "memory"), clock=clock) as address:
            raw = await stack.enter_async_context(stub(address, tls, "operator"))
            call = raw.admin.WatchSessions(pb.WatchSessionsRequest(), metadata=raw.metadata)
            await call.initial_metadata()
        # It has stopped: the watch, which would never end, has not delayed it.
        with pytest.raises(aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "authorization service is unavailable" in (caught.value.details() or "")


@pytest.mark.parametrize("seen_before", [0, 1])
async def test_a_watch_outlives_the_server(
    tmp_path: Path, tls: Path, idp: IdentityProvider, clock: Clock, seen_before: int
) -> None:
    values = settings(tmp_path, tls, idp, "sqlite")
    async with asyncio.timeout(WAIT_SECONDS), AsyncExitStack() as stack:
        async with running(values, clock=clock) as address:
            values = values.model_copy(update={"listen": address})
            watcher = await stack.enter_async_context(clients(address, tls))
            events = await stack.enter_async_context(watcher.operator.watching())
            await watcher.resolve("s1")
            seen = await taken(events, seen_before)
        # There is an event while no watch is open.
        elsewhere = values.model_copy(update={"listen": "127.0.0.1:0"})
        async with running(elsewhere, clock=clock) as other, clients(other, tls) as site:
            await site.resolve("s2")
        async with running(values, clock=clock), clients(address, tls) as site:
            await site.resolve("s3")
            seen += await taken(events, 3 - seen_before)
    assert [it.event.record.id for it in seen if it.event.record] == ["s1", "s2", "s3"]


@pytest.fixture
async def by_files(
    tmp_path: Path, idp: IdentityProvider, clock: Clock
) -> AsyncIterator[tuple[Site, Path]]:
    """A service whose callers have service tokens in files, and the folder of the files."""
    tls = write_tls(tmp_path)
    proofs = tmp_path / "proofs"
    proofs.mkdir()
    callers = []
    for caller in settings(tmp_path, tls, idp, "memory").callers:
        (proofs / caller.name).write_text(SERVICE_TOKENS[caller.name])
        changes = {"service_token_files": (proofs / caller.name,), "service_token_sha256": ()}
        callers.append(caller.model_copy(update=changes))
    values = settings(tmp_path, tls, idp, "memory").model_copy(update={"callers": tuple(callers)})
    async with running(values, clock=clock) as address, clients(address, tls) as connected:
        yield connected, proofs


async def test_a_watch_ends_when_its_service_token_is_withdrawn(
    by_files: tuple[Site, Path],
) -> None:
    site, proofs = by_files
    async with site.operator.watching() as events:
        await site.resolve("s1")
        await taken(events, 1)
        (proofs / "operator").unlink()
        assert await reason(taken(events, 1)) is Reason.CALLER_NOT_ALLOWED


async def test_a_watch_that_loses_its_caller_is_audited_once(
    by_files: tuple[Site, Path], caplog: pytest.LogCaptureFixture
) -> None:
    site, proofs = by_files
    async with asyncio.timeout(WAIT_SECONDS), site.stub("operator") as raw:
        call = raw.admin.WatchSessions(pb.WatchSessionsRequest(), metadata=raw.metadata)
        await call.initial_metadata()
        (proofs / "operator").unlink()
        with pytest.raises(aio.AioRpcError):
            await read_to_the_end(call)
    events = [it.__dict__.get("event_type") for it in caplog.records]
    assert events.count("CALLER_DENIED") == 1


async def test_a_watch_of_health_ends_when_its_service_token_is_withdrawn(
    by_files: tuple[Site, Path],
) -> None:
    site, proofs = by_files
    credentials = ClientTls(site.tls / "ca.pem").channel_credentials()
    metadata = (("authorization", f"Bearer {SERVICE_TOKENS['server']}"),)
    async with asyncio.timeout(WAIT_SECONDS), aio.secure_channel(site.address, credentials) as it:
        health: Any = health_pb2_grpc.HealthStub(it)  # its stubs are without methods
        call = health.Watch(health_pb2.HealthCheckRequest(), metadata=metadata)
        await call.read()
        (proofs / "server").unlink()
        with pytest.raises(aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def replace_service_token(site: Site, proofs: Path, name: str) -> None:
    """At the caller, and at the service."""
    token = token_hex(20)
    for folder in (site.tls, proofs):
        (folder / name).write_text(token)


async def read_to_the_end(
    call: aio.UnaryStreamCall[pb.WatchSessionsRequest, pb.WatchSessionsResponse],
) -> None:
    async for _ in call:
        pass


async def test_a_watch_goes_on_after_its_service_token_is_rotated(
    by_files: tuple[Site, Path],
) -> None:
    site, proofs = by_files
    async with asyncio.timeout(WAIT_SECONDS), site.stub("operator") as raw:
        old = raw.admin.WatchSessions(pb.WatchSessionsRequest(), metadata=raw.metadata)
        await old.initial_metadata()
        async with site.operator.watching() as events:
            await site.resolve("s1")
            await taken(events, 1)
            replace_service_token(site, proofs, "operator")
            with pytest.raises(aio.AioRpcError):
                await read_to_the_end(old)
            await site.resolve("s2")
            (event,) = await taken(events, 1)
    assert event.event.record is not None
    assert event.event.record.id == "s2"


async def test_an_mcp_server_goes_on_after_its_service_token_is_rotated(
    by_files: tuple[Site, Path],
) -> None:
    site, proofs = by_files
    await site.resolve("s1")
    replace_service_token(site, proofs, "server")
    credentials = ClientTls(site.tls / "ca.pem").channel_credentials()
    metadata = (("authorization", f"Bearer {SERVICE_TOKENS['server']}"),)
    async with asyncio.timeout(WAIT_SECONDS), aio.secure_channel(site.address, credentials) as it:
        stream = pb_grpc.AuthServiceStub(it).ResolveSessionStream(metadata=metadata)
        with pytest.raises(aio.AioRpcError):
            await stream.read()
    assert (await site.resolve("s2")).session is not None


# Authorisation.

Ask = Callable[[Raw], Awaitable[object]]


def _asks() -> dict[str, Ask]:
    request = pb.RevokeSessionsRequest(everyone=pb.RevokeSessionsRequest.EveryoneTarget())
    return {
        "GetSession": lambda raw: raw.admin.GetSession(
            pb.GetSessionRequest(session_id="s"), metadata=raw.metadata, timeout=WAIT_SECONDS
        ),
        "ListSessions": lambda raw: raw.admin.ListSessions(
            pb.ListSessionsRequest(), metadata=raw.metadata, timeout=WAIT_SECONDS
        ),
        "RevokeSessions": lambda raw: raw.admin.RevokeSessions(
            request, metadata=raw.metadata, timeout=WAIT_SECONDS
        ),
        "WatchSessions": lambda raw: raw.admin.WatchSessions(
            pb.WatchSessionsRequest(), metadata=raw.metadata, timeout=WAIT_SECONDS
        ).read(),
    }


@pytest.mark.parametrize("name", ["server", "stranger"])
async def test_only_operators_may_call(site: Site, idp: IdentityProvider, name: str) -> None:
    token = idp.token()
    await site.resolve("s", token)
    async with site.stub(name) as raw:
        for ask in _asks().values():
            with pytest.raises(aio.AioRpcError) as caught:
                await ask(raw)
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert await site.refusal("s", token) is None


async def test_an_operator_resolves_nothing(site: Site, idp: IdentityProvider, tls: Path) -> None:
    how = ClientTls(tls / "ca.pem", service_token_file=tls / "operator")
    async with AuthClient(site.address, deadline_seconds=TIMEOUT_SECONDS, tls=how) as client:
        for work in (
            client.resolve("s", idp.token(), resource=RESOURCE, create=True),
            client.create(idp.token(), resource=RESOURCE),
            client.revoke("s"),
        ):
            assert await reason(work) is Reason.CALLER_NOT_ALLOWED
