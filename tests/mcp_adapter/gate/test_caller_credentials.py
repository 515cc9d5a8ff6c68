"""Tools ask for the credentials of their caller by name, for as long as the request is served."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import logging
import pickle
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message

from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import (
    Actor,
    AwsCredentials,
    BearerCredentials,
    Principal,
    Resolution,
    Secret,
)
from mcp_adapter import Caller, NoCredentialsError, Requirement, SessionGate, caller, current_caller
from mcp_adapter.gate.request_credentials import STATE_KEY, RequestCredentials
from mcp_adapter.testing import FakeResolver
from tests.mcp_adapter.gate.direct import posted
from tests.mcp_adapter.harness import LEGACY, MODERN, RESOURCE, MemoryResolver, call, initialize
from tests.mcp_adapter.harness import principal as principal_of
from tests.mcp_adapter.harness import request as rpc
from tests.support.bounds import TIMEOUT_SECONDS

pytestmark = pytest.mark.anyio

TOKEN = "the-token-of-alice"
BEARER = BearerCredentials(Secret("for-the-api"), "Bearer", expire_time=2e9)
AWS = AwsCredentials("AKIA", Secret("secret"), None, "eu-west-1", expire_time=2e9)

Tool = Callable[[Request], Awaitable[object]]


class Asked(MemoryResolver):
    """Records what is asked for, and answers from ``issued``.

    Attributes:
        asked: session id, token, credentials, and whether it was a recheck, of each resolve.
        issued: by name, what is issued.
        checked: set once a request has been checked again.
    """

    def __init__(self) -> None:
        super().__init__({TOKEN: principal_of("alice")})
        self.asked: list[tuple[str, str, object, bool]] = []
        self.created: list[object] = []
        self.issued: dict[str, Any] = {"": AWS, "api": BEARER}
        self.checked = anyio.Event()

    async def resolve(
        self,
        session_id: str,
        token: str,
        *,
        resource: str,
        create: bool = False,
        **options: Any,  # noqa: ANN401 - whatever the fake takes
    ) -> Resolution:
        """See ``Resolver.resolve``."""
        wanted = options.pop("credentials", None)
        is_recheck = options.get("recheck", False)
        self.asked.append((session_id, token, wanted, is_recheck))
        if is_recheck:
            self.checked.set()
        found = await super().resolve(
            session_id, token, resource=resource, create=create, **options
        )
        return self._with(found, wanted)

    async def create(self, token: str, *, resource: str, **options: Any) -> Resolution:  # noqa: ANN401 - as above
        """See ``Resolver.create``."""
        wanted = options.pop("credentials", None)
        self.created.append(wanted)
        return self._with(await super().create(token, resource=resource, **options), wanted)

    def _with(self, found: Resolution, wanted: Sequence[CredentialRequest] | None) -> Resolution:
        if found.principal is None:
            return found
        if wanted is None:
            return dataclasses.replace(found, credentials=self.issued.get(""))
        named = {it.name: self.issued[it.name] for it in wanted if it.name in self.issued}
        return dataclasses.replace(found, named_credentials=named)


def app_of(tool: Tool) -> ASGIApp:
    """An app that answers each POST with what ``tool`` returns."""

    async def serve(request: Request) -> Response:
        answer = await tool(request)
        if isinstance(answer, Response):
            return answer
        message = request.state.mcp_message
        return JSONResponse({"jsonrpc": "2.0", "id": message.get("id"), "result": str(answer)})

    return Starlette(routes=[Route("/mcp", serve, methods=["POST", "GET", "DELETE"])])


def gate_of(tool: Tool, resolver: FakeResolver, **options: Any) -> SessionGate:  # noqa: ANN401 - of the gate
    """That app behind a gate, each of whose calls needs one scope."""
    options.setdefault("requirement", lambda method, params: Requirement(("things.read",)))
    return SessionGate(app_of(tool), resolver=resolver, resource=RESOURCE, **options)


def result_of(sent: Sequence[Message]) -> Any:  # noqa: ANN401 - JSON
    return json.loads(b"".join(it.get("body", b"") for it in sent))["result"]


@pytest.fixture
def resolver() -> Asked:
    return Asked()


@pytest.fixture(params=[MODERN, LEGACY])
def version(request: pytest.FixtureRequest) -> str:
    """Both eras of MCP."""
    return str(request.param)


async def called(gate: ASGIApp, version: str, resolver: Asked, body: object = None) -> Any:  # noqa: ANN401 - JSON
    session = ""
    if version == LEGACY:
        session = "session-of-alice-0123"
        resolver.sessions[session] = None
    body = call("x") if body is None else body
    return result_of(await posted(gate, body, token=TOKEN, session=session, version=version))


async def test_a_tool_asks_for_credentials_by_name(resolver: Asked, version: str) -> None:
    async def tool(request: Request) -> str:
        who = caller(request)
        bearer = await who.credentials("api", BearerCredentials, buckets=["alpha"])
        assert bearer == BEARER
        assert await who.credentials(kind=AwsCredentials) == AWS
        assert await who.credentials() == AWS
        return who.subject

    assert await called(gate_of(tool, resolver), version, resolver) == "alice"

    of_request, *on_demand = resolver.asked
    session = "session-of-alice-0123" if version == LEGACY else ""
    assert of_request[:3] == (session, TOKEN, None)
    assert on_demand == [
        (session, TOKEN, (CredentialRequest("api", ("alpha",)),), True),
        (session, TOKEN, (CredentialRequest(),), True),
        (session, TOKEN, (CredentialRequest(),), True),
    ]


async def test_each_request_asks_with_its_own_token(resolver: Asked) -> None:
    resolver.tokens["bobs"] = principal_of("bob")
    both, arrived = anyio.Event(), 0

    async def tool(request: Request) -> str:
        nonlocal arrived
        arrived += 1
        if arrived == 2:
            both.set()
        await both.wait()
        await caller(request).credentials("api")
        return caller(request).subject

    gate = gate_of(tool, resolver)

    async def ask(token: str) -> None:
        await posted(gate, call("x"), token=token, version=MODERN)

    async with anyio.create_task_group() as tasks:
        for token in (TOKEN, "bobs"):
            tasks.start_soon(ask, token)
    asked = [it for it in resolver.asked if it[3]]
    assert sorted(token for _, token, _, _ in asked) == ["bobs", TOKEN]


async def test_a_rejected_token_is_named_by_its_digest(resolver: Asked) -> None:
    async def tool(request: Request) -> None:
        await caller(request).credentials("api", rejected=BEARER)

    await called(gate_of(tool, resolver), MODERN, resolver)

    wanted = CredentialRequest("api", rejected=hashlib.sha256(b"for-the-api").digest())
    assert resolver.asked[-1][2] == (wanted,)


@pytest.mark.parametrize(
    ("ask", "error", "text"),
    [
        (lambda who: who.credentials("none"), NoCredentialsError, "no credentials 'none'"),
        (lambda who: who.credentials("", BearerCredentials), TypeError, "are AwsCredentials"),
        (lambda who: who.credentials("api", AwsCredentials), TypeError, "'api' are Bearer"),
        (lambda who: who.credentials("api", str), TypeError, "kind is AwsCredentials or"),
        (lambda who: who.credentials("a b"), ValueError, "name is 1 to 64"),
        (lambda who: who.credentials("api", buckets="alpha"), TypeError, "buckets"),
        (lambda who: who.credentials("api", rejected="for-the-api"), TypeError, "rejected"),
    ],
)
async def test_what_cannot_be_had_is_an_error(
    resolver: Asked, ask: Callable[[Any], Awaitable[object]], error: type[Exception], text: str
) -> None:
    async def tool(request: Request) -> None:
        with pytest.raises(error, match=text) as caught:
            await ask(caller(request))
        assert "for-the-api" not in str(caught.value)

    await called(gate_of(tool, resolver), MODERN, resolver)


async def test_no_credentials_at_all(resolver: Asked) -> None:
    resolver.issued.clear()

    async def tool(request: Request) -> None:
        with pytest.raises(NoCredentialsError, match="no credentials without a name"):
            await caller(request).credentials()

    await called(gate_of(tool, resolver), MODERN, resolver)


async def test_refused_ones_are_an_error_of_authsvc(resolver: Asked) -> None:
    resolver.issued["api"] = AuthError(Reason.CREDENTIALS_REFUSED, "by the exchange")

    async def tool(request: Request) -> None:
        with pytest.raises(AuthError) as caught:
            await caller(request).credentials("api")
        assert caught.value.reason is Reason.CREDENTIALS_REFUSED
        assert caught.value is not resolver.issued["api"]

    await called(gate_of(tool, resolver), MODERN, resolver)


async def test_a_caller_that_is_revoked_while_its_response_streams_gets_none(
    resolver: Asked, version: str
) -> None:
    async def tool(request: Request) -> None:
        await caller(request).credentials("api")
        resolver.reject(TOKEN)
        with pytest.raises(AuthError) as caught:
            await caller(request).credentials("api")
        assert caught.value.reason is Reason.TOKEN_REVOKED

    await called(gate_of(tool, resolver), version, resolver)


async def test_a_session_that_ends_meanwhile_gets_none(resolver: Asked) -> None:
    async def tool(request: Request) -> None:
        resolver.sessions.clear()
        with pytest.raises(AuthError) as caught:
            await caller(request).credentials("api")
        assert caught.value.reason is Reason.SESSION_NOT_FOUND

    await called(gate_of(tool, resolver), LEGACY, resolver)


async def test_a_token_that_loses_its_scope_meanwhile_gets_none(resolver: Asked) -> None:
    async def tool(request: Request) -> None:
        resolver.tokens[TOKEN] = principal_of("alice", "things.write")
        with pytest.raises(AuthError, match="lacks a scope") as caught:
            await caller(request).credentials("api")
        assert caught.value.reason is Reason.CREDENTIALS_REFUSED

    await called(gate_of(tool, resolver), MODERN, resolver)


class Changing(Asked):
    """Of a user's own: its answer to the second question is ``second``."""

    second: object = None

    async def resolve(self, session_id: str, token: str, **options: Any) -> Resolution:  # noqa: ANN401 - as above
        """See ``Resolver.resolve``."""
        found = await super().resolve(session_id, token, **options)
        return self.second if options.get("recheck") else found  # type: ignore[return-value] # may be anything


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (Resolution(named_credentials={"api": BEARER}), Reason.SESSION_SUBJECT_MISMATCH),
        (
            Resolution(principal=principal_of("eve"), named_credentials={"api": BEARER}),
            Reason.SESSION_SUBJECT_MISMATCH,
        ),
        (
            Resolution(
                principal=dataclasses.replace(
                    principal_of("alice"), issuer="https://other.example"
                ),
                named_credentials={"api": BEARER},
            ),
            Reason.SESSION_SUBJECT_MISMATCH,
        ),
        (None, Reason.SERVICE_UNAVAILABLE),
        ({"api": BEARER}, Reason.SERVICE_UNAVAILABLE),
        (
            Resolution(principal=principal_of("alice"), named_credentials={"api": "of-the-api"}),  # type: ignore[dict-item] # of a user's own
            Reason.SERVICE_UNAVAILABLE,
        ),
    ],
)
@pytest.mark.parametrize("is_open", [True, False])
async def test_a_second_answer_about_another_caller_gives_none(
    second: object,
    reason: Reason,
    is_open: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    resolver = Changing()
    resolver.second = second

    async def tool(request: Request) -> None:
        with pytest.raises(AuthError) as caught:
            await caller(request).credentials("api")
        assert caught.value.reason is reason
        assert "of-the-api" not in str(caught.value)

    options = {"requirement": lambda method, params: None} if is_open else {}
    await called(gate_of(tool, resolver, **options), MODERN, resolver)
    assert "of-the-api" not in caplog.text


async def test_a_request_that_is_open_has_those_of_its_token(resolver: Asked) -> None:
    async def tool(request: Request) -> None:
        assert await caller(request).credentials("api") == BEARER

    gate = gate_of(tool, resolver, requirement=lambda method, params: None)
    await called(gate, MODERN, resolver)


@pytest.mark.parametrize("error", [RuntimeError(f"of {TOKEN}"), None])
async def test_a_resolver_that_fails_is_unavailable(
    resolver: Asked, error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def tool(request: Request) -> None:
        if error is None:
            resolver._times_open = 0
        resolver.error = error
        with pytest.raises(AuthError) as caught:
            await caller(request).credentials("api")
        assert caught.value.reason is Reason.SERVICE_UNAVAILABLE
        assert TOKEN not in str(caught.value)

    await called(gate_of(tool, resolver), MODERN, resolver)
    assert TOKEN not in caplog.text


class Silent(FakeResolver):
    """Of a user's own: it takes no credentials."""

    def __init__(self, *, creates: bool = False) -> None:
        super().__init__()
        self.tokens[TOKEN] = principal_of("alice")

    async def resolve(  # type: ignore[override] # what a test is about
        self, session_id: str, token: str, *, resource: str, create: bool = False
    ) -> Resolution:
        return Resolution(principal=self.tokens[token], credentials=AWS)

    async def create(self, token: str, *, resource: str) -> Resolution:  # type: ignore[override] # as above
        return Resolution(principal=self.tokens[token])


class HalfSilent(Silent):
    async def resolve(self, session_id: str, token: str, **options: Any) -> Resolution:  # noqa: ANN401 - as above
        return Resolution(principal=self.tokens[token])


async def test_a_resolver_without_credentials_is_named() -> None:
    async def tool(request: Request) -> None:
        assert current_caller(request).credentials == AWS
        with pytest.raises(TypeError, match="the resolver takes no credentials") as caught:
            await caller(request).credentials("api")
        assert TOKEN not in str(caught.value)

    sent = await posted(gate_of(tool, Silent()), call("x"), token=TOKEN, version=MODERN)
    assert result_of(sent) == "None"
    for lacking in (Silent(), HalfSilent()):
        with pytest.raises(TypeError, match="the resolver takes no credentials"):
            gate_of(tool, lacking, credentials="on_demand")


async def test_on_demand_no_request_has_credentials(resolver: Asked, version: str) -> None:
    async def tool(request: Request) -> str:
        assert current_caller(request).credentials is None
        assert await caller(request).credentials() == AWS
        return caller(request).subject

    gate = gate_of(tool, resolver, credentials="on_demand")
    assert await called(gate, version, resolver) == "alice"

    assert [wanted for _, _, wanted, _ in resolver.asked] == [(), (CredentialRequest(),)]


@pytest.mark.parametrize("stateful", [False, True])
async def test_on_demand_no_session_is_opened_with_credentials(
    resolver: Asked, *, stateful: bool
) -> None:
    async def tool(request: Request) -> Response:
        assert await caller(request).credentials("api") == BEARER
        headers = {"mcp-session-id": "minted-by-the-app-01"} if stateful else {}
        return JSONResponse({"jsonrpc": "2.0", "id": 7, "result": "opened"}, headers=headers)

    gate = gate_of(tool, resolver, credentials="on_demand", stateful=stateful)
    sent = await posted(gate, initialize(), token=TOKEN, version=LEGACY)

    assert result_of(sent) == "opened"
    selections = [*resolver.created, *(wanted for _, _, wanted, _ in resolver.asked)]
    assert selections.count(()) == len(selections) - 1
    (asked,) = [it for it in resolver.asked if it[2]]
    # A session of authsvc's exists while the initialize is answered; the app's does not.
    assert asked[0] == ("" if stateful else next(iter(resolver.sessions)))


async def test_on_demand_a_stream_is_checked_without_credentials(resolver: Asked) -> None:
    async def tool(request: Request) -> Response:
        async def events() -> Any:  # noqa: ANN401 - of bytes
            yield b": begun\n\n"
            await resolver.checked.wait()
            yield b"data: {}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    gate = gate_of(tool, resolver, credentials="on_demand")
    with anyio.fail_after(TIMEOUT_SECONDS):
        await posted(gate, call("x"), token=TOKEN, version=MODERN)
    assert [wanted for _, _, wanted, _ in resolver.asked[:2]] == [(), ()]


@pytest.mark.parametrize("value", ["on-demand", "", None, True])
def test_another_value_is_rejected(resolver: Asked, value: object) -> None:
    async def tool(request: Request) -> None: ...

    with pytest.raises(ValueError, match="credentials is 'with_request' or 'on_demand'"):
        gate_of(tool, resolver, credentials=value)


@pytest.mark.parametrize("kind", ["whole", "stream"])
async def test_a_background_task_gets_none(resolver: Asked, kind: str) -> None:
    outcome: list[BaseException] = []

    async def tool(request: Request) -> Response:
        who = caller(request)
        assert await who.credentials("api") == BEARER

        async def later() -> None:
            for it in (who, caller(request)):
                with pytest.raises(AuthError, match="the request has ended") as caught:
                    await it.credentials("api")
                outcome.append(caught.value)

        task = BackgroundTask(later)
        if kind == "whole":
            return JSONResponse({"jsonrpc": "2.0", "id": 7, "result": 1}, background=task)

        async def events() -> Any:  # noqa: ANN401 - of bytes
            yield b": begun\n\n"
            assert await who.credentials("api") == BEARER
            yield b'data: {"jsonrpc": "2.0", "id": 7, "result": 1}\n\n'

        return StreamingResponse(events(), media_type="text/event-stream", background=task)

    await posted(gate_of(tool, resolver), call("x"), token=TOKEN, version=MODERN)

    assert [it.reason for it in outcome if isinstance(it, AuthError)] == [
        Reason.CREDENTIALS_REFUSED
    ] * 2


@pytest.mark.parametrize("stateful", [False, True])
async def test_a_task_that_outlives_its_request_gets_none(
    resolver: Asked, *, stateful: bool
) -> None:
    kept: list[Caller] = []

    async def tool(request: Request) -> Response:
        kept.append(caller(request))
        headers = {"mcp-session-id": "minted-by-the-app-01"} if stateful else {}
        return JSONResponse({"jsonrpc": "2.0", "id": 7, "result": 1}, headers=headers)

    gate = gate_of(tool, resolver, stateful=stateful)
    await posted(gate, initialize(), token=TOKEN, version=LEGACY)
    await posted(gate, call("x"), token=TOKEN, version=MODERN)

    assert len(kept) == 2
    for who in kept:
        with pytest.raises(AuthError, match="the request has ended"):
            await who.credentials("api")


async def test_the_task_of_an_app_that_fails_gets_none(resolver: Asked) -> None:
    kept: list[Caller] = []

    async def tool(request: Request) -> None:
        kept.append(caller(request))
        raise RuntimeError("of the app")

    with pytest.raises(RuntimeError, match="of the app"):
        await posted(gate_of(tool, resolver), call("x"), token=TOKEN, version=MODERN)
    with pytest.raises(AuthError, match="the request has ended"):
        await kept[0].credentials("api")


async def test_a_response_that_is_cut_off_has_ended(resolver: Asked) -> None:
    outcome: list[BaseException] = []

    async def tool(request: Request) -> Response:
        async def events() -> Any:  # noqa: ANN401 - of bytes
            yield b": begun\n\n"
            resolver.reject(TOKEN)
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True), pytest.raises(AuthError) as caught:
                    await caller(request).credentials("api")
                outcome.append(caught.value)

        return StreamingResponse(events(), media_type="text/event-stream")

    with anyio.fail_after(TIMEOUT_SECONDS):
        await posted(gate_of(tool, resolver), call("x"), token=TOKEN, version=MODERN)
    assert [str(it) for it in outcome] == ["CREDENTIALS_REFUSED: the request has ended"]


async def test_an_answer_that_comes_after_the_end_is_dropped() -> None:
    async def issue(wanted: CredentialRequest) -> BearerCredentials:
        credentials.end()
        return BEARER

    credentials = RequestCredentials(issue)
    with pytest.raises(AuthError, match="the request has ended"):
        await credentials.issue(CredentialRequest())


async def test_get_and_delete_have_theirs(resolver: Asked) -> None:
    seen: list[str] = []

    async def tool(request: Request) -> Response:
        # Of a DELETE the session has just ended: it has those of its token.
        assert await caller(request).credentials("api") == BEARER
        seen.append(request.method)
        return Response(status_code=204)

    gate = gate_of(tool, resolver, stateful=True, streams=True)
    for method in ("GET", "DELETE"):
        resolver.sessions["session-of-alice-0123"] = None
        await posted(
            gate, {}, method=method, token=TOKEN, session="session-of-alice-0123", version=LEGACY
        )
    assert seen == ["GET", "DELETE"]


async def test_nothing_shows_the_token(resolver: Asked, caplog: pytest.LogCaptureFixture) -> None:
    logged = logging.getLogger("of.the.app")

    async def tool(request: Request) -> None:
        who = caller(request)
        source = request.scope["state"][STATE_KEY]
        with caplog.at_level(logging.DEBUG):
            logged.warning("%r %s %r", request.scope, vars(request), who)
        for it in (who, source):
            assert TOKEN not in repr(it)
            assert not hasattr(it, "__dict__")
            with pytest.raises(TypeError):
                json.dumps(it)
        for pickled in (source, request.scope["state"]):
            with pytest.raises(TypeError, match="not pickled"):
                pickle.dumps(pickled)
        assert TOKEN not in repr(copy.deepcopy(source))
        assert copy.copy(source) is copy.deepcopy(source) is source
        assert TOKEN.encode() not in pickle.dumps(who)
        assert TOKEN not in json.dumps(request.scope["state"], default=repr)
        resolver.reject(TOKEN)
        with pytest.raises(AuthError) as caught:
            await who.credentials("api")
        locals_of = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        assert TOKEN not in "".join(locals_of.format())

    await called(gate_of(tool, resolver), MODERN, resolver)
    assert TOKEN not in caplog.text
    assert "alice" in caplog.text


def alice() -> Principal:
    return Principal(
        "https://idp.example", "alice", expire_time=2e9, claims_json=b'{"sub": "alice"}'
    )


@pytest.fixture
def who() -> Caller:
    return Caller.of(alice(), None)


def test_a_caller_is_a_principal(who: Caller) -> None:
    other = dataclasses.replace(alice(), subject="bob")

    assert who == alice()
    assert alice() == who
    assert who != other
    assert other != who
    assert who != "alice"
    changes: list[dict[str, Any]] = [
        *({name: "other"} for name in ("issuer", "subject", "client_id")),
        *({name: ("other",)} for name in ("scopes", "roles", "buckets", "permissions")),
        {"actor": Actor("agent")},
        {"claims_json": b"{}"},
        {"expire_time": 1.0},
    ]
    for changed in changes:
        assert who != dataclasses.replace(alice(), **changed)
    assert {who, alice()} == {alice()}
    assert isinstance(who, Principal)
    assert repr(who) == repr(alice()).replace("Principal", "Caller")
    assert dataclasses.asdict(who) == dataclasses.asdict(alice())
    assert who.claims == {"sub": "alice"}
    shared = alice()
    assert Caller.of(shared, None).claims is Caller.of(shared, None).claims


async def test_a_copy_of_a_caller_asks_for_nothing(who: Caller) -> None:
    for it in (
        who,
        copy.copy(who),
        dataclasses.replace(who, subject="bob"),
        pickle.loads(pickle.dumps(who)),  # noqa: S301 - its own
    ):
        assert it.claims == {"sub": "alice"}
        with pytest.raises(NoCredentialsError):
            await it.credentials()


async def test_a_request_of_no_gate_has_none() -> None:
    state = {"resolution": Resolution(principal=alice()), STATE_KEY: "something else"}
    who = caller(Request({"type": "http", "headers": [], "state": state}))
    with pytest.raises(NoCredentialsError):
        await who.credentials()


async def test_a_batch_has_those_of_its_request(resolver: Asked) -> None:
    async def tool(request: Request) -> Response:
        assert await caller(request).credentials("api") == BEARER
        return JSONResponse({"result": "batch"})

    batch = [call("x", 1), rpc("tools/list", request_id=2)]
    gate = gate_of(tool, resolver)
    resolver.sessions["session-of-alice-0123"] = None
    sent = await posted(
        gate, batch, token=TOKEN, session="session-of-alice-0123", version="2025-03-26"
    )
    assert result_of(sent) == "batch"
