"""What is admitted by who mints the ids of a server's sessions, by authsvc's own decisions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.record import Limits
from authsvc.domain.resolution import Outcome, SessionState
from authsvc.http_auth.anonymous_bodies import AnonymousBodies
from authsvc.http_auth.authorizer import Admitted, Authorizer
from authsvc.http_auth.headers import Headers
from authsvc.http_auth.messages import Message
from authsvc.http_auth.refusals import Refusal
from authsvc.http_auth.request_headers import RequestHeaders
from authsvc.http_auth.requirements import default_requirement
from authsvc.http_auth.resolving import RequestResolver
from authsvc.http_auth.sessions import Sessions
from mcp_adapter.testing import InMemoryAuthsvc
from tests.mcp_adapter.harness import LEGACY, MODERN, RESOURCE
from tests.support.clock import Clock

pytestmark = pytest.mark.anyio

THEIRS = "minted-by-the-upstream"
OPEN, CLOSED = {"method": "tools/list", "id": 1}, {"method": "tools/call", "id": 1}
INITIALIZE = {"method": "initialize", "id": 1}
INITIALIZED = {"method": "notifications/initialized"}


def request_of(token: str = "", session: str = "", version: str = LEGACY) -> RequestHeaders:
    given = {
        "authorization": token and f"Bearer {token}",
        "mcp-session-id": session,
        "mcp-protocol-version": version,
    }
    return RequestHeaders.of(
        Headers([(name.encode(), value.encode()) for name, value in given.items() if value])
    )


@dataclass
class Server:
    """One authsvc, and what is decided for one MCP server."""

    authsvc: InMemoryAuthsvc
    clock: Clock
    sessions: Sessions = Sessions.FIRST_USE

    def __post_init__(self) -> None:
        self.resolving = RequestResolver(self.authsvc, RESOURCE, sessions=self.sessions)
        self.authorizer = Authorizer(
            self.resolving,
            requirement=default_requirement,
            sessions=self.sessions,
            streams=True,
        )

    def of(self, sessions: Sessions) -> Server:
        return Server(self.authsvc, self.clock, sessions)

    def token(self, subject: str = "alice") -> str:
        return self.authsvc.token(subject)

    async def post(
        self, message: Message, token: str = "", session: str = "", version: str = LEGACY
    ) -> Admitted:
        return await self.authorizer.message(request_of(token, session, version), message)

    async def refusal(
        self, message: Message, token: str = "", session: str = "", version: str = LEGACY
    ) -> tuple[int, str]:
        with pytest.raises(Refusal) as caught:
            await self.post(message, token, session, version)
        return caught.value.status.value, caught.value.reason

    async def is_known(self, session: str) -> bool:
        try:
            await self.authsvc.resolve(session, "", resource=RESOURCE)
        except AuthError as error:
            if error.reason is not Reason.SESSION_NOT_FOUND:
                raise
            return False
        return True


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    clock = Clock()
    async with InMemoryAuthsvc(RESOURCE, clock=clock) as authsvc:
        yield Server(authsvc, clock)


def subject_of(admitted: Admitted) -> str | None:
    principal = admitted.resolution.principal
    return principal.subject if principal else None


# An id that the server has minted is adopted at its first use with a token.


@pytest.mark.parametrize("message", [OPEN, CLOSED, INITIALIZED], ids=str)
async def test_the_first_token_adopts_a_session(server: Server, message: Message) -> None:
    admitted = await server.post(message, server.token(), THEIRS)
    assert subject_of(admitted) == "alice"
    session = admitted.resolution.session
    assert session is not None
    assert (session.id, session.state) == (THEIRS, SessionState.AUTHENTICATED)
    assert admitted.resolution.outcome is Outcome.CREATED


async def test_it_is_its_first_users_alone(server: Server) -> None:
    await server.post(CLOSED, server.token(), THEIRS)
    assert subject_of(await server.post(CLOSED, server.token(), THEIRS)) == "alice"
    for message in (OPEN, CLOSED):
        refusal = await server.refusal(message, server.token("mallory"), THEIRS)
        assert refusal == (404, "SESSION_NOT_FOUND")


async def test_a_rejected_token_adopts_nothing(server: Server) -> None:
    refusal = await server.refusal(OPEN, server.token() + "x", THEIRS)
    assert refusal == (401, "TOKEN_SIGNATURE_INVALID")
    assert not await server.is_known(THEIRS)


async def test_a_stream_adopts_a_session_too(server: Server) -> None:
    admitted = await server.authorizer.owner(request_of(server.token(), THEIRS))
    assert admitted.resolution.outcome is Outcome.CREATED


@pytest.mark.parametrize("sessions", [Sessions.MINTED, Sessions.ANNOUNCED])
async def test_otherwise_no_session_is_adopted_by_its_use(
    server: Server, sessions: Sessions
) -> None:
    server = server.of(sessions)
    for message in (OPEN, CLOSED):
        refusal = await server.refusal(message, server.token(), THEIRS)
        assert refusal == (404, "SESSION_NOT_FOUND")
    assert not await server.is_known(THEIRS)


# Without a token nothing is stored.


@pytest.mark.parametrize("message", [OPEN, INITIALIZED], ids=str)
async def test_an_open_message_of_an_unknown_session_has_no_identity(
    server: Server, message: Message
) -> None:
    admitted = await server.post(message, "", THEIRS)
    assert (subject_of(admitted), admitted.resolution.session) == (None, None)
    assert not await server.is_known(THEIRS)


async def test_another_message_of_an_unknown_session_needs_a_token(server: Server) -> None:
    assert await server.refusal(CLOSED, "", THEIRS) == (401, "")
    assert not await server.is_known(THEIRS)


@pytest.mark.parametrize("sessions", [Sessions.MINTED, Sessions.ANNOUNCED])
async def test_otherwise_an_unknown_session_is_none(server: Server, sessions: Sessions) -> None:
    assert await server.of(sessions).refusal(OPEN, "", THEIRS) == (404, "SESSION_NOT_FOUND")


# A session that has an owner is served to nobody else.


@pytest.mark.parametrize("sessions", [Sessions.ANNOUNCED, Sessions.FIRST_USE])
async def test_open_messages_of_an_owned_session_need_its_owner(
    server: Server, sessions: Sessions
) -> None:
    await server.post(CLOSED, server.token(), THEIRS)
    assert await server.of(sessions).refusal(OPEN, "", THEIRS) == (401, "")
    assert subject_of(await server.of(sessions).post(OPEN, server.token(), THEIRS)) == "alice"


async def test_a_minted_session_gives_open_messages_without_a_token_no_identity(
    server: Server,
) -> None:
    await server.post(CLOSED, server.token(), THEIRS)
    admitted = await server.of(Sessions.MINTED).post(OPEN, "", THEIRS)
    assert subject_of(admitted) is None


@pytest.mark.parametrize("sessions", [Sessions.ANNOUNCED, Sessions.FIRST_USE])
@pytest.mark.parametrize("message", [INITIALIZE, INITIALIZED], ids=str)
async def test_what_opens_a_session_needs_no_owner(
    server: Server, sessions: Sessions, message: Message
) -> None:
    await server.post(CLOSED, server.token(), THEIRS)
    assert subject_of(await server.of(sessions).post(message, "", THEIRS)) is None


async def test_a_notification_with_an_id_opens_nothing(server: Server) -> None:
    await server.post(CLOSED, server.token(), THEIRS)
    assert await server.refusal({**INITIALIZED, "id": 1}, "", THEIRS) == (401, "")


# initialize: the server's answer is not seen.


@pytest.mark.parametrize("session", ["", THEIRS])
async def test_an_initialize_stores_no_session_of_the_servers(server: Server, session: str) -> None:
    admitted = await server.post(INITIALIZE, server.token(), session)
    assert (subject_of(admitted), admitted.opens_session) == ("alice", True)
    assert not await server.is_known(THEIRS)
    admitted = await server.post(INITIALIZE, "", session)
    assert (subject_of(admitted), admitted.resolution.session) == (None, None)


async def test_a_minted_session_is_opened_by_initialize(server: Server) -> None:
    admitted = await server.of(Sessions.MINTED).post(INITIALIZE)
    assert admitted.resolution.session is not None
    assert await server.is_known(admitted.resolution.session.id)


# No id: the principal's session (row 17), or none (row 16).


async def test_without_an_id_a_token_has_its_principals_session(server: Server) -> None:
    first = await server.post(CLOSED, server.token())
    again = await server.post(OPEN, server.token())
    other = await server.post(CLOSED, server.token("bob"))
    ids = [it.resolution.session and it.resolution.session.id for it in (first, again, other)]
    assert ids[0] == ids[1] != ids[2]
    assert [subject_of(it) for it in (first, again, other)] == ["alice", "alice", "bob"]


async def test_without_an_id_and_a_token_open_messages_have_no_identity(server: Server) -> None:
    assert subject_of(await server.post(OPEN)) is None
    assert await server.refusal(CLOSED) == (401, "")


@pytest.mark.parametrize("sessions", [Sessions.MINTED, Sessions.ANNOUNCED])
async def test_otherwise_an_id_is_demanded(server: Server, sessions: Sessions) -> None:
    for token in ("", server.token()):
        assert await server.of(sessions).refusal(OPEN, token) == (400, "")


@pytest.mark.parametrize("sessions", list(Sessions))
async def test_a_later_revision_has_principals_sessions_alone(
    server: Server, sessions: Sessions
) -> None:
    server = server.of(sessions)
    admitted = await server.post(CLOSED, server.token(), THEIRS, MODERN)
    assert admitted.resolution.session is not None
    assert admitted.resolution.session.id != THEIRS
    assert subject_of(await server.post(OPEN, "", THEIRS, MODERN)) is None
    assert await server.refusal(CLOSED, "", THEIRS, MODERN) == (401, "")
    assert not await server.is_known(THEIRS)


# A session that has ended is not adopted again by what ended it.


@pytest.mark.parametrize("message", [OPEN, CLOSED], ids=str)
async def test_a_revoked_session_stays_so(server: Server, message: Message) -> None:
    admitted = await server.post(CLOSED, server.token(), THEIRS)
    await server.resolving.revoke(admitted.request, admitted.resolution)
    for token in ("", server.token(), server.token("bob")):
        assert await server.refusal(message, token, THEIRS) == (404, "SESSION_NOT_FOUND")


async def test_an_expired_session_is_answered_as_one(server: Server) -> None:
    await server.post(CLOSED, server.token(), THEIRS)
    server.clock.advance(Limits().authenticated_idle_seconds + 1)
    assert await server.refusal(CLOSED, server.token(), THEIRS) == (404, "SESSION_NOT_FOUND")


async def test_an_outage_is_no_unknown_session(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise AuthError(Reason.STORE_UNAVAILABLE)

    monkeypatch.setattr(server.authsvc, "resolve", fails)
    assert await server.refusal(OPEN, "", THEIRS) == (503, "STORE_UNAVAILABLE")


# GET and DELETE.


@pytest.mark.parametrize("sessions", list(Sessions))
async def test_a_session_as_a_whole_is_its_owners(server: Server, sessions: Sessions) -> None:
    await server.post(CLOSED, server.token(), THEIRS)
    server = server.of(sessions)
    for request, status in (
        (request_of(server.token()), 400),
        (request_of("", THEIRS), 401),
        (request_of("", "unknown"), 401),
        (request_of(server.token("bob"), THEIRS), 404),
        (request_of(server.token(), THEIRS, MODERN), 405),
    ):
        with pytest.raises(Refusal) as caught:
            await server.authorizer.owner(request)
        assert caught.value.status == status
    admitted = await server.authorizer.owner(request_of(server.token(), THEIRS))
    assert subject_of(admitted) == "alice"


@pytest.mark.parametrize(
    ("method", "status"), [("OPTIONS", 204), ("PUT", 405), ("HEAD", 405), ("GET", 405)]
)
async def test_what_other_methods_are_answered(server: Server, method: str, status: int) -> None:
    answer = server.authorizer.other_method(method)
    allow = "GET, POST, DELETE, OPTIONS"
    assert (answer.status, answer.headers, answer.body) == (status, {"Allow": allow}, b"")


# Bodies that are long for a request without a verified token.


@pytest.mark.parametrize("sessions", list(Sessions))
async def test_a_token_lets_a_long_initialize_pass_where_none_is_minted(
    server: Server, sessions: Sessions
) -> None:
    server = server.of(sessions)
    bodies = AnonymousBodies(server.resolving, max_bytes=10)
    request = request_of(server.token())
    if sessions is Sessions.FIRST_USE:
        await bodies.allowance(request).check_bytes(11)
        assert request.is_verified
    else:
        with pytest.raises(Refusal) as caught:
            await bodies.allowance(request).check_bytes(11)
        assert caught.value.status == 413
    with pytest.raises(Refusal) as caught:
        await bodies.allowance(request_of()).check_bytes(11)
    assert caught.value.status == (401 if sessions is Sessions.FIRST_USE else 413)
