"""The decision table (docs/sessions.md) through gRPC, on every store, row by row: over a stream,
and with a call for each resolve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import (
    Actor,
    AwsCredentials,
    Outcome,
    Resolution,
    Session,
    SessionState,
)
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.service import STORE_KINDS, Service, serving, settings_for
from tests.support.tokens import OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[True, False], ids=["stream", "unary"])
def streams(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=STORE_KINDS)
async def service(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    clock: Clock,
    idp: IdentityProvider,
    streams: bool,
) -> AsyncIterator[Service]:
    settings = settings_for(tmp_path, idp, request.param)
    async with serving(settings, clock, streams=streams) as running_service:
        yield running_service


async def resolve(
    service: Service,
    session_id: str,
    token: str = "",
    *,
    create: bool = False,
    resource: str = RESOURCE,
) -> Resolution:
    return await service.client.resolve(session_id, token, resource=resource, create=create)


async def refusal(service: Service, session_id: str, token: str = "") -> Reason:
    with pytest.raises(AuthError) as caught:
        await resolve(service, session_id, token)
    return caught.value.reason


async def stored(service: Service, session_id: str) -> Session:
    """The session, read without a token, which changes nothing."""
    answer = await resolve(service, session_id)
    assert answer.session is not None
    return answer.session


def subject(answer: Resolution) -> str | None:
    return answer.principal.subject if answer.principal else None


def roles(answer: Resolution) -> tuple[str, ...]:
    assert answer.principal is not None
    return answer.principal.roles


async def test_row_1(service: Service) -> None:
    answer = await resolve(service, "s", create=True)
    assert answer.outcome is Outcome.CREATED
    assert answer.session is not None
    assert answer.session.state is SessionState.UNAUTHENTICATED
    assert (answer.principal, answer.credentials) == (None, None)
    assert await stored(service, "s") == answer.session


async def test_row_2(service: Service, idp: IdentityProvider, clock: Clock) -> None:
    answer = await resolve(service, "s", idp.token("alice"), create=True)
    assert answer.outcome is Outcome.CREATED
    assert answer.session is not None
    assert answer.session.state is SessionState.AUTHENTICATED
    assert answer.session.revision == 1
    assert answer.session.create_time == clock.now
    assert answer.session.expire_time == clock.now + 86400
    who = answer.principal
    assert who is not None
    assert (who.issuer, who.subject, who.client_id) == (idp.issuer, "alice", "client")
    assert who.scopes == ("buckets.read", "objects.read")
    assert who.buckets == ("alpha", "beta")
    assert who.permissions == ("s3:ListBucket", "s3:GetObject")
    assert who.expire_time == clock.now + 600
    assert b'"sub":"alice"' in who.claims_json
    credentials = answer.credentials
    assert isinstance(credentials, AwsCredentials)
    assert credentials.access_key_id == "AKIAREADER"
    assert credentials.secret_access_key.reveal() == "secret-of-reader"
    assert credentials.expire_time == who.expire_time


async def test_row_3(service: Service, idp: IdentityProvider) -> None:
    with pytest.raises(AuthError) as caught:
        await resolve(service, "s", idp.forged(), create=True)
    assert caught.value.reason is Reason.TOKEN_SIGNATURE_INVALID
    assert await refusal(service, "s") is Reason.SESSION_NOT_FOUND


async def test_row_4(service: Service, idp: IdentityProvider) -> None:
    assert await refusal(service, "s") is Reason.SESSION_NOT_FOUND
    assert await refusal(service, "s", idp.token()) is Reason.SESSION_NOT_FOUND
    assert await refusal(service, "s", "rubbish") is Reason.SESSION_NOT_FOUND
    assert await refusal(service, "s") is Reason.SESSION_NOT_FOUND


async def test_row_5(service: Service) -> None:
    created = await resolve(service, "s", create=True)
    answer = await resolve(service, "s")
    assert answer.outcome is Outcome.REUSED
    assert answer.session == created.session
    assert answer.principal is None


async def test_row_6(service: Service, idp: IdentityProvider) -> None:
    await resolve(service, "s", create=True)
    answer = await resolve(service, "s", idp.token("alice"))
    assert answer.outcome is Outcome.REAUTHENTICATED
    assert answer.session is not None
    assert answer.session.state is SessionState.AUTHENTICATED
    assert answer.session.revision == 2
    assert subject(answer) == "alice"


async def test_row_7(service: Service, idp: IdentityProvider, clock: Clock) -> None:
    good = idp.token("alice")
    await resolve(service, "s", good, create=True)
    before = await stored(service, "s")
    bad = {
        "rubbish": Reason.TOKEN_MALFORMED,
        good[:-1] + "*": Reason.TOKEN_MALFORMED,
        idp.forged("alice"): Reason.TOKEN_SIGNATURE_INVALID,
        idp.token("alice", ttl_seconds=-60): Reason.TOKEN_EXPIRED,
        idp.token("alice", nbf=clock.now + 300): Reason.TOKEN_NOT_YET_VALID,
        idp.token("alice", aud=OTHER_RESOURCE): Reason.TOKEN_AUDIENCE_MISMATCH,
        idp.token("alice", aud=RESOURCE + "/"): Reason.TOKEN_AUDIENCE_MISMATCH,
        idp.token("alice", iss="https://evil.example"): Reason.TOKEN_ISSUER_UNKNOWN,
        idp.token("alice", exp=None): Reason.TOKEN_CLAIM_MISSING,
        "a" * 70_000: Reason.TOKEN_TOO_LARGE,
    }
    for token, reason in bad.items():
        assert await refusal(service, "s", token) is reason
        assert await stored(service, "s") == before
    assert subject(await resolve(service, "s", good)) == "alice"


async def test_row_7_on_an_anonymous_session(service: Service, idp: IdentityProvider) -> None:
    created = await resolve(service, "s", create=True)
    assert await refusal(service, "s", idp.forged()) is Reason.TOKEN_SIGNATURE_INVALID
    assert await stored(service, "s") == created.session
    assert (await resolve(service, "s", idp.token())).outcome is Outcome.REAUTHENTICATED


async def test_row_8(service: Service, idp: IdentityProvider) -> None:
    token = idp.token("alice")
    created = await resolve(service, "s", token, create=True)
    again = await resolve(service, "s", token)
    assert again.outcome is Outcome.REUSED
    assert again.session == created.session
    assert again.principal == created.principal
    assert again.credentials == created.credentials


async def test_row_9(service: Service, idp: IdentityProvider, clock: Clock) -> None:
    token = idp.token("alice", ttl_seconds=60)
    await resolve(service, "s", token, create=True)
    before = await stored(service, "s")
    clock.advance(60 + 30)  # past exp and the leeway
    assert await refusal(service, "s", token) is Reason.TOKEN_EXPIRED
    assert await stored(service, "s") == before
    refreshed = await resolve(service, "s", idp.token("alice"))
    assert refreshed.outcome is Outcome.REAUTHENTICATED
    assert subject(refreshed) == "alice"


async def test_row_10(service: Service, idp: IdentityProvider, clock: Clock) -> None:
    await resolve(service, "s", idp.token("alice"), create=True)
    clock.advance(1)
    token = idp.token("alice", roles=["analyst"], buckets=["gamma"])
    answer = await resolve(service, "s", token)
    assert answer.outcome is Outcome.REAUTHENTICATED
    assert answer.session is not None
    assert answer.session.revision == 2
    assert answer.principal is not None
    assert (answer.principal.roles, answer.principal.buckets) == (("analyst",), ("gamma",))
    assert isinstance(answer.credentials, AwsCredentials)
    assert answer.credentials.access_key_id == "AKIAANALYST"
    again = await resolve(service, "s", token)
    assert (again.outcome, again.principal) == (Outcome.REUSED, answer.principal)


async def test_row_11(service: Service, idp: IdentityProvider, clock: Clock) -> None:
    older = idp.token("alice", roles=["reader"])
    await resolve(service, "s", older, create=True)
    clock.advance(1)
    newer = idp.token("alice", roles=["analyst"])
    await resolve(service, "s", newer)
    before = await stored(service, "s")
    for _ in range(3):
        answer = await resolve(service, "s", older)
        assert (answer.outcome, roles(answer)) == (Outcome.REUSED, ("reader",))
        assert isinstance(answer.credentials, AwsCredentials)
        assert answer.credentials.access_key_id == "AKIAREADER"
        answer = await resolve(service, "s", newer)
        assert (answer.outcome, roles(answer)) == (Outcome.REUSED, ("analyst",))
    assert await stored(service, "s") == before


async def test_two_actors_of_one_subject_share_a_session(
    service: Service, idp: IdentityProvider, clock: Clock
) -> None:
    """A session belongs to the subject; each answer has the actor of its own token."""
    tokens: dict[Actor | None, str] = {None: idp.token("alice")}
    agent = Actor("agent")
    for acting in (agent, Actor("other", "https://agents.example", "app", agent)):
        clock.advance(1)
        tokens[acting] = idp.token("alice", act=acting.claim())
    for session_id in ("s", ""):
        for _ in range(2):
            for actor, token in tokens.items():
                answer = await resolve(service, session_id, token, create=True)
                assert answer.principal is not None
                assert (answer.principal.subject, answer.principal.actor) == ("alice", actor)
        answer = await resolve(service, session_id, tokens[None])
        assert answer.outcome is Outcome.REUSED
        assert answer.session is not None
        assert answer.session.revision == len(tokens)


async def test_a_created_session_has_the_actor(service: Service, idp: IdentityProvider) -> None:
    created = await service.client.create(
        idp.token("alice", act={"sub": "agent"}), resource=RESOURCE
    )
    assert created.principal is not None
    assert created.principal.actor == Actor("agent")


async def test_an_actor_that_is_none_is_malformed(service: Service, idp: IdentityProvider) -> None:
    await resolve(service, "s", idp.token("alice"), create=True)
    before = await stored(service, "s")
    for act in ("agent", {}, {"sub": "agent", "act": ["first"]}):
        for session_id in ("s", ""):
            token = idp.token("alice", act=act)
            assert await refusal(service, session_id, token) is Reason.TOKEN_MALFORMED
    assert await stored(service, "s") == before


async def test_row_12(
    service: Service, idp: IdentityProvider, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    owner = idp.token("alice")
    await resolve(service, "s", owner, create=True)
    before = await stored(service, "s")
    clock.advance(1)
    assert await refusal(service, "s", idp.token("mallory")) is Reason.SESSION_SUBJECT_MISMATCH
    assert await stored(service, "s") == before
    assert subject(await resolve(service, "s", owner)) == "alice"
    events = [record for record in caplog.records if record.name == "authsvc.security"]
    assert [event.__dict__["event_type"] for event in events] == [
        "SESSION_CREATED",
        "SUBJECT_MISMATCH",
    ]


async def test_row_13(service: Service, idp: IdentityProvider) -> None:
    token = idp.token("alice")
    await resolve(service, "s", token, create=True)
    answer = await resolve(service, "s")
    assert answer.session is not None
    assert answer.session.state is SessionState.UNAUTHENTICATED
    assert (answer.principal, answer.credentials) == (None, None)
    again = await resolve(service, "s", token)
    assert again.outcome is Outcome.REUSED
    assert again.session is not None
    assert again.session.revision == answer.session.revision


async def test_row_14(service: Service, idp: IdentityProvider, clock: Clock) -> None:
    token = idp.token("alice")
    await resolve(service, "s", token, create=True)
    await service.client.revoke("s")
    await service.client.revoke("s")
    for presented in (token, "", "rubbish", idp.token("mallory")):
        assert await refusal(service, "s", presented) is Reason.SESSION_REVOKED
    clock.advance(1)
    assert await refusal(service, "s", idp.token("alice")) is Reason.SESSION_REVOKED
    with pytest.raises(AuthError) as caught:
        await resolve(service, "s", idp.token("alice"), create=True)
    assert caught.value.reason is Reason.SESSION_REVOKED
    clock.advance(86400)
    assert await refusal(service, "s") is Reason.SESSION_NOT_FOUND


async def test_row_14_revoking_an_unknown_session_succeeds(service: Service) -> None:
    await service.client.revoke("never-seen")
    assert await refusal(service, "never-seen") is Reason.SESSION_NOT_FOUND


async def test_row_15_idle(service: Service, idp: IdentityProvider, clock: Clock) -> None:
    await resolve(service, "anonymous", create=True)
    await resolve(service, "authenticated", idp.token(), create=True)
    clock.advance(3600)
    assert await refusal(service, "anonymous") is Reason.SESSION_EXPIRED
    assert await refusal(service, "anonymous") is Reason.SESSION_NOT_FOUND
    clock.advance(86400 - 3600 - 1)
    assert (await resolve(service, "authenticated", idp.token())).principal is not None
    clock.advance(86400)
    assert await refusal(service, "authenticated", idp.token()) is Reason.SESSION_EXPIRED
    assert await refusal(service, "authenticated", idp.token()) is Reason.SESSION_NOT_FOUND


async def test_row_15_absolute(service: Service, idp: IdentityProvider, clock: Clock) -> None:
    await resolve(service, "s", idp.token(), create=True)
    for _ in range(29):
        clock.advance(86400 - 1)
        await resolve(service, "s", idp.token())
    clock.advance(86400 - 1)
    assert (await resolve(service, "s", idp.token())).principal is not None
    clock.advance(30)
    assert await refusal(service, "s", idp.token()) is Reason.SESSION_EXPIRED


async def test_row_16(service: Service) -> None:
    assert await resolve(service, "") == Resolution()
    assert await resolve(service, "", create=True) == Resolution()


async def test_row_17(service: Service, idp: IdentityProvider, clock: Clock) -> None:
    first = idp.token("alice")
    created = await resolve(service, "", first)
    assert created.outcome is Outcome.CREATED
    assert subject(created) == "alice"
    assert (await resolve(service, "", first)).outcome is Outcome.REUSED
    clock.advance(1)
    newer = await resolve(service, "", idp.token("alice", roles=["analyst"]))
    assert (newer.outcome, roles(newer)) == (Outcome.REAUTHENTICATED, ("analyst",))
    older = await resolve(service, "", first)
    assert (older.outcome, roles(older)) == (Outcome.REUSED, ("reader",))
    assert created.session is not None
    for other in (
        await resolve(service, "", idp.token("bob")),
        await resolve(service, "", idp.token("alice", client_id="other")),
        await resolve(service, "", idp.token(aud=OTHER_RESOURCE), resource=OTHER_RESOURCE),
    ):
        assert other.outcome is Outcome.CREATED
        assert other.session is not None
        assert other.session.id != created.session.id
    with pytest.raises(AuthError) as caught:
        await resolve(service, "", idp.forged())
    assert caught.value.reason is Reason.TOKEN_SIGNATURE_INVALID


async def test_row_17_cannot_be_occupied(service: Service, idp: IdentityProvider) -> None:
    created = await resolve(service, "", idp.token("alice"))
    assert created.session is not None
    for token in ("", idp.token("mallory")):
        with pytest.raises(AuthError) as caught:
            await resolve(service, created.session.id, token, create=True)
        assert caught.value.reason is Reason.SESSION_ID_INVALID


async def test_row_17_revocation(service: Service, idp: IdentityProvider, clock: Clock) -> None:
    token = idp.token("alice")
    created = await resolve(service, "", token)
    assert created.session is not None
    await service.client.revoke(created.session.id)
    assert await refusal(service, "", token) is Reason.SESSION_REVOKED
    clock.advance(1)
    later = await resolve(service, "", idp.token("alice"))
    assert (later.outcome, subject(later)) == (Outcome.REAUTHENTICATED, "alice")
    assert await refusal(service, "", token) is Reason.SESSION_REVOKED


async def test_one_session_at_two_resources(service: Service, idp: IdentityProvider) -> None:
    here = idp.token("alice", roles=["reader"])
    there = idp.token("alice", roles=["analyst"], aud=OTHER_RESOURCE)
    await resolve(service, "s", here, create=True)
    await resolve(service, "s", there, resource=OTHER_RESOURCE)
    for _ in range(2):
        answer = await resolve(service, "s", here)
        assert (answer.outcome, roles(answer)) == (Outcome.REUSED, ("reader",))
        answer = await resolve(service, "s", there, resource=OTHER_RESOURCE)
        assert (answer.outcome, roles(answer)) == (Outcome.REUSED, ("analyst",))
    assert await refusal(service, "s", there) is Reason.TOKEN_AUDIENCE_MISMATCH
    with pytest.raises(AuthError):
        await resolve(service, "s", idp.token("bob", aud=OTHER_RESOURCE), resource=OTHER_RESOURCE)
    await service.client.revoke("s")
    assert await refusal(service, "s", here) is Reason.SESSION_REVOKED
    with pytest.raises(AuthError):
        await resolve(service, "s", there, resource=OTHER_RESOURCE)


async def test_fifty_tasks_alternate_two_tokens(
    service: Service, idp: IdentityProvider, clock: Clock
) -> None:
    tokens = {"reader": idp.token("alice", roles=["reader"])}
    clock.advance(1)
    tokens["analyst"] = idp.token("alice", roles=["analyst"])
    await resolve(service, "s", create=True)

    async def alternate(number: int) -> None:
        for turn in range(6):
            role = ("reader", "analyst")[(number + turn) % 2]
            answer = await resolve(service, "s", tokens[role])
            assert roles(answer) == (role,)
            assert isinstance(answer.credentials, AwsCredentials)
            assert answer.credentials.access_key_id == f"AKIA{role.upper()}"

    async with asyncio.timeout(TIMEOUT_SECONDS):
        await asyncio.gather(*map(alternate, range(50)))
    # At most: anonymous, then reader, then analyst.
    assert (await stored(service, "s")).revision <= 3


async def test_a_race_to_create_makes_one_session(service: Service, idp: IdentityProvider) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        answers = await asyncio.gather(
            *(resolve(service, "s", idp.token("alice"), create=True) for _ in range(20))
        )
    outcomes = [answer.outcome for answer in answers]
    assert outcomes.count(Outcome.CREATED) == 1
    assert all(subject(answer) == "alice" for answer in answers)


async def test_a_race_of_two_subjects_has_one_winner(
    service: Service, idp: IdentityProvider
) -> None:
    await resolve(service, "s", create=True)

    async def attempt(name: str) -> str:
        try:
            return f"{name} as {subject(await resolve(service, 's', idp.token(name)))}"
        except AuthError as error:
            return f"{name}: {error.reason.name}"

    async with asyncio.timeout(TIMEOUT_SECONDS):
        results = await asyncio.gather(*(attempt(name) for name in ("alice", "bob") * 10))
    won = {result for result in results if " as " in result}
    assert won in ({"alice as alice"}, {"bob as bob"})
    assert len(set(results)) == 2
