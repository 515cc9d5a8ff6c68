"""One request, decided on by a gate and by a check: each over an authsvc of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import unquote

import anyio
from starlette.types import Message, Receive, Scope, Send

from authsvc.access.callers import LOCAL_CALLER, Caller, Callers
from authsvc.access.limits import CallerLimits
from authsvc.access.usage import Usages
from authsvc.admin.issuers import IssuerWatch, WatchedIssuer
from authsvc.admin.revocations import Revocations
from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.rates import CallCounts, RateLimit
from authsvc.domain.record import Limits
from authsvc.domain.resolution import Principal, Resolution
from authsvc.gateways.ext_authz import ExtAuthzServicer
from authsvc.gateways.routes import Route, Routes
from authsvc.gateways.tool_scopes import RouteRequirement
from authsvc.internal.v1.ext_authz_pb2 import ExtAuthzRequest
from authsvc.resolver.resolver import SessionResolver
from authsvc.rpc.admission import Admission
from authsvc.rpc.metadata import Context
from authsvc.stores.memory import MemoryStore
from authsvc.telemetry.counts import Checks
from authsvc.telemetry.spans import NoTracing
from authsvc.tokens.jwt import Issuer, JwtVerifier
from authsvc.tokens.keys import KeySet
from mcp_adapter import SessionGate
from tests.support.checks import Answer
from tests.support.tokens import ISSUER, RESOURCE

SESSION_ID = "mcp-session-id"

_LIMITLESS = CallerLimits(
    calls_per_second=1e9,
    calls_burst=1e9,
    rejected_tokens_per_second=1e9,
    rejected_tokens_burst=1e9,
    anonymous_sessions_per_second=1e9,
    anonymous_sessions_burst=1e9,
)

_INLINE = {"authorization", "content-type", "user-agent", "accept", "content-length"}

_OF_CALLERS = {"issuer", "subject", "client_id", "scopes"}

_OF_THE_BODY = {"content-length", "transfer-encoding"}
"""Each server or gateway writes these for the body that it sends."""


@dataclass
class Sent:
    """A request as both get it.

    Attributes:
        method: HTTP's.
        path: not decoded.
        headers: as the client spells them.
        body: of the request.
        as_map: whether the gateway sends headers as a map.
        as_text: whether it sends the body as text.
        mints: the session id that the server behind gives an ``initialize``; empty for none.
    """

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    as_map: bool = False
    as_text: bool = False
    mints: str = ""


@dataclass
class Outcome:
    """What came of a request.

    Attributes:
        passed: whether the server behind got it.
        status: of the answer in its place; 0 where it got it.
        answer: the headers of that answer that say something.
        body: of that answer.
        who: as whom the request was admitted.
        headers: that the server behind got, by name.
        session: the session id that the client got.
        resolved: the id of the session that the caller was resolved to.
        metadata: what the gateway's filters and access log are told of the caller; of a gate what
            they would be.
    """

    passed: bool
    status: int = 0
    answer: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    who: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    session: str = ""
    resolved: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


def who(principal: Principal | None) -> str:
    """An identity, in all that tells one from another; empty for none."""
    if principal is None:
        return ""
    return json.dumps(
        [
            *(principal.issuer, principal.subject, principal.client_id, principal.expire_time),
            *(principal.scopes, principal.roles, principal.claims_json.decode()),
        ]
    )


def told_of(principal: Principal | None) -> dict[str, Any]:
    """What metadata say of a caller."""
    if principal is None:
        return {}
    told = {
        "issuer": principal.issuer,
        "subject": principal.subject,
        "client_id": principal.client_id,
        "scopes": list(principal.scopes),
    }
    return {name: value for name, value in told.items() if value}


class Authsvc:
    """A fresh authsvc.

    Attributes:
        resolver: decides.
        revocations: revokes.
    """

    def __init__(self, keys: KeySet, clock: Callable[[], float]) -> None:
        store = MemoryStore(unauthenticated_cap=100_000)
        self.resolver = SessionResolver(
            JwtVerifier([Issuer(ISSUER, keys)]),
            store,
            None,
            limits=Limits(),
            usages=Usages(_LIMITLESS, clock),
            clock=clock,
        )
        watch = IssuerWatch([WatchedIssuer(ISSUER, "secret_file", keys)], "")
        self.revocations = Revocations(
            store, end_session=self.resolver.revoke, issuers=watch.status, clock=clock
        )


class DirectResolver:
    """A ``Resolver`` for the gate."""

    def __init__(self, resolver: SessionResolver) -> None:
        self._resolver = resolver

    async def resolve(
        self,
        session_id: str,
        token: str,
        *,
        resource: str,
        create: bool = False,
        rate_limits: Sequence[RateLimit] = (),
        calls: int = 1,
        recheck: bool = False,
        credentials: Sequence[CredentialRequest] | None = None,
    ) -> Resolution:
        return await self._resolver.resolve(
            session_id,
            token,
            resource=resource,
            create=create,
            counts=CallCounts(tuple(rate_limits), calls, recheck),
            credentials=credentials,
        )

    async def create(
        self,
        token: str,
        *,
        resource: str,
        rate_limits: Sequence[RateLimit] = (),
        credentials: Sequence[CredentialRequest] | None = None,
    ) -> Resolution:
        counts = CallCounts(tuple(rate_limits))
        return await self._resolver.create(
            token, resource=resource, counts=counts, credentials=credentials
        )

    async def revoke(self, session_id: str) -> None:
        await self._resolver.revoke(session_id)


class Gate:
    """A gate, in front of a server that notes what it gets."""

    def __init__(self, route: Route, authsvc: Authsvc) -> None:
        requirement = RouteRequirement(route)
        self.resolver = DirectResolver(authsvc.resolver)
        self._gate = SessionGate(
            self._server,
            resolver=self.resolver,
            resource=route.resource,
            authorization_servers=route.authorization_servers,
            scopes=requirement.widest.scopes,
            requirement=requirement,
            stateful=route.adopt_sessions,
            streams=route.adopt_sessions,
        )
        self._seen: list[Scope] = []
        self._mints = ""

    async def ask(self, sent: Sent) -> Outcome:
        """What comes of a request."""
        self._seen.clear()
        self._mints = sent.mints
        started: list[Message] = []
        pieces = [sent.body]

        async def receive() -> Message:
            if not pieces:
                await anyio.sleep_forever()
            return {"type": "http.request", "body": pieces.pop(), "more_body": False}

        async def send(message: Message) -> None:
            started.append(message)

        scope = {
            "type": "http",
            "method": sent.method,
            "path": unquote(sent.path),
            "raw_path": sent.path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in sent.headers],
            "state": {},
        }
        await self._gate(scope, receive, send)
        status = started[0]["status"]
        headers = _named((k.decode(), v.decode("latin-1")) for k, v in started[0]["headers"])
        if not self._seen:
            body = b"".join(message.get("body", b"") for message in started[1:])
            return Outcome(False, status, _telling(headers), body)
        assert status == 200
        (seen,) = self._seen
        got = _named((k.decode("latin-1"), v.decode("latin-1")) for k, v in seen["headers"])
        resolution = seen["state"]["resolution"]
        return Outcome(
            passed=True,
            who=who(resolution.principal),
            headers=_upstream(sent.method, got),
            session=headers.get(SESSION_ID, ""),
            resolved=_session_of(resolution) if resolution.principal else "",
            metadata=told_of(resolution.principal),
        )

    async def _server(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._seen.append(scope)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
        if self._mints:
            headers.append((SESSION_ID.encode(), self._mints.encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})


class Check:
    """A gateway that asks authsvc, and does as it is told."""

    def __init__(self, route: Route, authsvc: Authsvc, clock: Callable[[], float]) -> None:
        caller = Caller(LOCAL_CALLER, frozenset({RESOURCE}))
        self._servicer = ExtAuthzServicer(
            authsvc.resolver,
            Admission(Callers((), local=caller), Usages(_LIMITLESS, clock)),
            Routes([route], adopt_sessions=route.adopt_sessions),
            _Naming(),
            Checks(),
            NoTracing(),
        )

    async def ask(self, sent: Sent) -> Outcome:
        """What comes of a request."""
        # A gateway has names in lower case, and values without white space around them.
        headers = [(name.lower(), value.strip(" \t")) for name, value in sent.headers]
        encoded = _check_request(sent, headers).SerializeToString()
        answer = Answer.of(await self._servicer.Check(encoded, cast("Context", _Local())))
        if not answer.allowed:
            body = answer.body.encode()
            return Outcome(False, answer.status, _telling(answer.headers), body)
        assert not answer.headers.keys() & set(answer.removed)
        changed = answer.headers.keys() | set(answer.removed)
        kept = _named((name, value) for name, value in headers if name not in changed)
        told = dict(answer.headers)
        who, _, resolved = told.pop("x-authsvc-assertion", "").rpartition(" ")
        return Outcome(
            passed=True,
            who=who,
            headers=_upstream(sent.method, kept | told),
            session=answer.to_client.get(SESSION_ID, sent.mints),
            resolved=resolved,
            metadata={k: v for k, v in answer.metadata.items() if k in _OF_CALLERS},
        )


def _check_request(sent: Sent, headers: list[tuple[str, str]]) -> ExtAuthzRequest:
    message = ExtAuthzRequest()
    http = message.attributes.request.http
    http.method, http.path, http.host = sent.method, sent.path, "mcp.example"
    http.size = len(sent.body)
    if sent.as_text and _is_told_by_text(sent.body):
        http.body = sent.body.decode()
    else:
        http.raw_body = sent.body
    message.attributes.context_extensions["resource"] = RESOURCE
    if sent.as_map and _is_told_by_a_map(headers):
        for name, value in _named(headers).items():
            http.headers[name] = value
    else:
        for name, value in _inline_joined(headers):
            http.header_map.headers.add(key=name, raw_value=value.encode("latin-1"))
    return message


def _inline_joined(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers as Envoy lists them: it joins some of those that are repeated."""
    inline = _named(it for it in headers if it[0] in _INLINE)
    first = {name: headers.index((name, value)) for name, value in reversed(headers)}
    return [
        (name, inline.get(name, value))
        for at, (name, value) in enumerate(headers)
        if name not in inline or at == first[name]
    ]


def _is_told_by_text(body: bytes) -> bool:
    """Whether a body survives as text, without what may stand for invalid UTF-8."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return False
    return not {"!", "\N{REPLACEMENT CHARACTER}"} & set(text)


def _is_told_by_a_map(headers: list[tuple[str, str]]) -> bool:
    """Whether a map says the same: its texts are UTF-8, and its order is not the client's, which
    tells which of two repeated headers is named in a refusal."""
    names = [name for name, _ in headers]
    repeated = {name for name in names if names.count(name) > 1}
    return len(repeated) < 2 and all(value.isascii() for _, value in headers)


class _Naming:
    """Signs nothing: the assertion is the identity."""

    def assertion(self, resolution: Resolution, *, resource: str, token_digest: bytes) -> str:
        assert resource == RESOURCE
        assert token_digest
        return f"{who(resolution.principal)} {_session_of(resolution)}"


def _session_of(resolution: Resolution) -> str:
    return resolution.session.id if resolution.session else ""


class _Local:
    """The context of a call on this machine."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def auth_context(self) -> Mapping[str, Any]:
        return {}

    def peer(self) -> str:
        return "unix:"


def _named(headers: Any) -> dict[str, str]:  # noqa: ANN401 - of pairs
    """Headers by name, those of one name joined as HTTP allows it (RFC 9110 section 5.3)."""
    found: dict[str, str] = {}
    for name, value in headers:
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _telling(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of an answer, without those that are the server's own affair."""
    own = {"content-length", "connection", "vary"}
    return {
        name: value
        for name, value in headers.items()
        if name not in own and not name.startswith("access-control-")
    }


def _upstream(method: str, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of an admitted request that have to be equal."""
    of_the_body = _OF_THE_BODY if method == "POST" else _OF_THE_BODY | {"content-type"}
    return {name: value for name, value in headers.items() if name not in of_the_body}
