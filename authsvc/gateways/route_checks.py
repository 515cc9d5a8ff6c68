"""Decides on the requests for one route that one gateway asks about: as ``SessionGate`` does, by
the same code.

A gateway has read the request before it asks, so nothing waits here as it does at the gate, where a
flood of long bodies is parsed at a bounded rate: the wait would take the gateway's calls in flight,
and its time-out would make an outage of it. Long bodies alone wait for each other: to parse one
holds up the checks of all clients, for tens of milliseconds.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote

from authsvc.common.rarely import Rarely
from authsvc.domain.rates import CallCounts
from authsvc.domain.resolution import Resolution, Resolver
from authsvc.gateways.audited_checks import AuditedCheck
from authsvc.gateways.check_requests import NOTE_INTERVAL_SECONDS, CheckedRequest
from authsvc.gateways.routes import Route
from authsvc.gateways.tool_scopes import RouteRequirement
from authsvc.gateways.turns import Turns
from authsvc.http_auth import bodies, forwarding, messages
from authsvc.http_auth.anonymous_bodies import DEFAULT_MAX_BYTES, AnonymousBodies
from authsvc.http_auth.authorization import authorize, counts_of
from authsvc.http_auth.authorizer import Admitted, Authorizer
from authsvc.http_auth.metadata import (
    METADATA_HEADERS,
    is_metadata_path,
    metadata_document,
    metadata_paths,
    metadata_url,
)
from authsvc.http_auth.refusals import Answer, Refusal, bad_request, no_metadata
from authsvc.http_auth.request_headers import RequestHeaders
from authsvc.http_auth.requirements import Requirement, required
from authsvc.http_auth.resolving import RequestResolver
from authsvc.http_auth.sessions import Sessions
from authsvc.http_auth.strict_json import has_many_values

SHOWN_CHARACTERS = 200
"""How much of what a client sent is logged, and is in the metadata."""

log = logging.getLogger(__name__)


@dataclass(slots=True, repr=False)
class Call:
    """What a request calls, as far as it is known, for metadata and for the answer.

    Attributes:
        request_id: of the JSON-RPC request; None without one.
        method: of MCP, as far as it is shown; empty without one.
        tool: that is called, likewise.
        audited: gets what is known of the request; None where it is not audited.
    """

    request_id: int | str | None = None
    method: str = ""
    tool: str = ""
    audited: AuditedCheck | None = None

    def read(self, message: messages.Message) -> None:
        """Take them from a message; a batch has none."""
        self.request_id = messages.request_id_of(message)
        if self.audited is not None:
            self.audited.read(message)
        if isinstance(message, dict):
            self.name(message.get("method"), message.get("params"))

    def name(self, method: object, params: object) -> None:
        """Take method and tool."""
        self.method = method[:SHOWN_CHARACTERS] if isinstance(method, str) else ""
        tool = params.get("name") if isinstance(params, dict) else None
        self.tool = ""
        if self.method == "tools/call" and isinstance(tool, str):
            self.tool = tool[:SHOWN_CHARACTERS]


class RouteChecks:
    """Decides on requests for one route.

    Args:
        route: what is configured.
        resolver: decides on sessions and tokens, for the gateway that asks.
        turns: in which long bodies are parsed, of all routes.
    """

    def __init__(self, route: Route, resolver: Resolver, turns: Turns) -> None:
        self.route = route
        self._turns = turns
        self._requirement = RouteRequirement(route)
        self._notes = Rarely(NOTE_INTERVAL_SECONDS)
        sessions = Sessions.FIRST_USE if route.adopt_sessions else Sessions.MINTED
        self._resolving = RequestResolver(resolver, route.resource, sessions=sessions)
        self._anonymous = AnonymousBodies(self._resolving, max_bytes=DEFAULT_MAX_BYTES)
        self._authorizer = Authorizer(
            self._resolving,
            requirement=self._requirement,
            sessions=sessions,
            streams=route.adopt_sessions,
        )
        self._document = _document(route, self._requirement.widest)
        self._document_paths = frozenset(metadata_paths(route.resource)) if self._document else ()
        self.resource_metadata = metadata_url(route.resource) if self._document else ""
        """URL of the resource's metadata, for challenges; empty where it is not served."""

    async def decide(self, request: CheckedRequest, call: Call) -> Admitted | Answer:
        """What becomes of a request: it is admitted, or has an answer that needs no upstream.

        Args:
            request: the request.
            call: gets what is read of it.

        Raises:
            Refusal: it is not admitted.
        """
        path = unquote(request.path)
        if is_metadata_path(path):
            call.audited = None  # public, and no call
        if path in self._document_paths:
            return _metadata_answer(self._document, request.method)
        if is_metadata_path(path):
            raise no_metadata()
        _check_one_request(request)
        if request.method == "POST":
            return await self._post(request, call)
        if request.method == "GET" and self.route.adopt_sessions:
            return await self._authorizer.owner(RequestHeaders.of(request.headers))
        if request.method == "DELETE":
            return await self._delete(request, call)
        return self._authorizer.other_method(request.method)

    def admits(
        self, headers: RequestHeaders, body: bytes, resolution: Resolution, call: Call
    ) -> CallCounts | None:
        """What a POST counts as that has been resolved, with a principal, and is admitted. None
        where it is not, opens a session, or has a long body: ``decide`` has to say what becomes of
        it.

        Args:
            headers: of the request; the token in them is not read.
            body: the whole body.
            resolution: of the request.
            call: gets what is read of the body.
        """
        if len(body) > DEFAULT_MAX_BYTES or has_many_values(body):
            return None
        try:
            message = messages.parse(body)
            call.read(message)
            return self._authorizer.admits(headers, message, resolution)
        except Refusal:
            return None

    def creates(self, headers: RequestHeaders) -> bool:
        """Whether a request creates its session where there is none."""
        return self._resolving.creates(headers)

    async def _post(self, request: CheckedRequest, call: Call) -> Admitted:
        try:
            headers = RequestHeaders.of(request.headers)
        except Refusal:
            if request.body is not None:
                call.request_id = self._anonymous.request_id(request.headers, request.body)
            raise
        bodies.check_type(request.headers)
        if request.body is None:
            return await self._unread(request, headers, call)
        allowance = self._anonymous.allowance(headers)
        await allowance.check_bytes(len(request.body))
        await allowance.check_values(request.body)
        if allowance.is_verified:
            async with self._turns.turn():
                message = messages.parse(request.body)
        else:
            message = messages.parse(request.body)
        call.read(message)
        return await self._authorizer.message(headers, message)

    async def _unread(
        self, request: CheckedRequest, headers: RequestHeaders, call: Call
    ) -> Admitted:
        """Decide on a POST whose body is not known: it may be any call.

        Raises:
            Refusal: it is not admitted.
        """
        needed = self._named_call(headers, call) if self.route.routing_headers else None
        if needed is None:
            needed = _Needed(self._requirement.widest)
            if request.has_body and self._notes.may_pass("unread"):
                log.warning(
                    "a body has not come whole from the gateway: its request to %s needs a token "
                    "with all scopes of the route: see max_request_bytes, allow_partial_message "
                    "and pack_as_bytes there",
                    self.route.resource,
                )
        resolution = await self._resolving.identify(
            headers,
            needed.requirement,
            opens_session=False,
            counts=counts_of([needed.requirement]),
        )
        authorize(resolution, needed.requirement, session_id=headers.session_id)
        return Admitted(headers, needed.requirement, resolution)

    def _named_call(self, headers: RequestHeaders, call: Call) -> _Needed | None:
        """What the call needs that the routing headers name; None where they do not.

        Raises:
            Refusal: they cannot be read.
        """
        message = forwarding.named_message(headers.headers, headers.version)
        if message is None:
            return None
        call.name(message["method"], message["params"])
        if call.audited is not None:
            call.audited.named(message["method"], message["params"])
        forwarding.check_routing(headers.headers, headers.version, message)
        return _Needed(required(self._requirement, message["method"], message["params"]))

    async def _delete(self, request: CheckedRequest, call: Call) -> Admitted | Answer:
        """End a session: at authsvc, and then at an upstream that has it too."""
        admitted = await self._authorizer.owner(RequestHeaders.of(request.headers))
        await self._resolving.revoke(admitted.request, admitted.resolution)
        if self.route.adopt_sessions:
            return admitted
        if call.audited is not None:
            call.audited.allowed(admitted.resolution, HTTPStatus.NO_CONTENT.value)
        return Answer(HTTPStatus.NO_CONTENT, {})


@dataclass(frozen=True, slots=True)
class _Needed:
    """What a call needs; None in it where the call is open."""

    requirement: Requirement | None


def _check_one_request(request: CheckedRequest) -> None:
    """
    Raises:
        Refusal: 400 for what could bring the upstream calls that no check sees, or that are
            authorised as something else.
    """
    upgrades = request.headers.getlist("upgrade")
    # Clients offer HTTP/2 in this way, and gateways ignore it.
    if any(protocol.strip().lower() != "h2c" for one in upgrades for protocol in one.split(",")):
        raise bad_request("A connection is not upgraded here.")
    if request.has_body and request.method in {"GET", "DELETE"}:
        raise bad_request(f"A {request.method} has no body here.")


def _document(route: Route, widest: Requirement) -> bytes:
    """The resource's metadata; empty where there are no issuers to name."""
    if not route.authorization_servers:
        return b""
    document = metadata_document(
        route.resource, authorization_servers=route.authorization_servers, scopes=widest.scopes
    )
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _metadata_answer(document: bytes, method: str) -> Answer:
    """Public: clients in browsers fetch it before they have a token."""
    anyone = {"Access-Control-Allow-Origin": "*"}
    if method in {"GET", "HEAD"}:
        headers = {"Content-Type": "application/json", **METADATA_HEADERS, **anyone}
        return Answer(HTTPStatus.OK, headers, document)
    allow = {"Allow": "GET, HEAD, OPTIONS"}
    if method == "OPTIONS":
        preflight = {
            "Access-Control-Allow-Methods": "GET",
            "Access-Control-Allow-Headers": "*",
        }
        return Answer(HTTPStatus.NO_CONTENT, {**allow, **anyone, **preflight})
    return Answer(HTTPStatus.METHOD_NOT_ALLOWED, {**allow, **anyone})
