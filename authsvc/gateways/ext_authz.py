"""Envoy's external authorization: ``envoy.service.auth.v3.Authorization``.

A gateway that cannot be identified gets a gRPC status, as every caller does. All else is a
CheckResponse, outages and limits included, with the status and the body that ``SessionGate``
answers: a gateway that lets requests pass when a check fails (``failure_mode_allow``) does not let
these pass.
"""

from __future__ import annotations

import asyncio
import logging
from urllib.parse import unquote

import grpc

from authsvc.access.callers import Caller
from authsvc.audit.calls import CallAudit
from authsvc.common.rarely import Rarely
from authsvc.common.unexpected import log_unexpected
from authsvc.domain.errors import AuthError, Reason, of_setting
from authsvc.domain.resolution import Resolution, shown
from authsvc.domain.tokens import token_digest
from authsvc.gateways import check_responses, upstream_headers
from authsvc.gateways.audited_checks import CheckAudit
from authsvc.gateways.caller_resolver import CallerResolver
from authsvc.gateways.check_requests import CheckedRequest
from authsvc.gateways.check_responses import Metadata
from authsvc.gateways.clients import set_client
from authsvc.gateways.encoded_checks import EncodedCheck
from authsvc.gateways.repeated_checks import RepeatedChecks, Signer
from authsvc.gateways.route_checks import SHOWN_CHARACTERS, Call, RouteChecks
from authsvc.gateways.routes import Route, Routes
from authsvc.gateways.turns import Turns
from authsvc.http_auth import refusals
from authsvc.http_auth.authorizer import Admitted
from authsvc.http_auth.metadata import is_metadata_path
from authsvc.http_auth.refusals import Answer, Refusal
from authsvc.resolver.resolver import SessionResolver
from authsvc.rpc.admission import Admission
from authsvc.rpc.errors import end_with_status
from authsvc.rpc.metadata import Context, traceparent_of
from authsvc.rpc.registration import Handler
from authsvc.telemetry.counts import ALLOWED, ANONYMOUS, Checks
from authsvc.telemetry.spans import Tracing

log = logging.getLogger(__name__)

SERVICE_NAME = "envoy.service.auth.v3.Authorization"

UNROUTED_INTERVAL_SECONDS = 60.0
"""From one log line about a gateway's requests for no resource to the next."""


class ExtAuthzServicer:
    """``Authorization`` over a resolver.

    Args:
        resolver: decides.
        admission: admits calls.
        routes: what is configured for resources.
        signer: tells upstreams who is asking.
        checks: where checks are counted.
        tracing: makes spans of them.
        client_address_header: that gateways tell a client's address in; empty for that of the
            connection.
        audit: gets an event of each call; None for no audit.
    """

    def __init__(
        self,
        resolver: SessionResolver,
        admission: Admission,
        routes: Routes,
        signer: Signer,
        checks: Checks,
        tracing: Tracing,
        *,
        client_address_header: str = "",
        audit: CallAudit | None = None,
    ) -> None:
        self._audit: CheckAudit | None = None
        if audit is not None and audit.is_on:
            self._audit = CheckAudit(audit, client_address_header=client_address_header)
        self._resolver = resolver
        self._admission = admission
        self._routes = routes
        self._signer = signer
        self._checks = checks
        self._tracing = tracing
        self._turns = Turns()
        self._client_address_header = client_address_header
        # By gateway and resource: the gateways are registered, each for a few resources.
        self._route_checks: dict[tuple[str, str], RouteChecks] = {}
        self._unrouted = Rarely(UNROUTED_INTERVAL_SECONDS)  # by gateway
        self._repeated = RepeatedChecks(resolver, signer)

    def handlers(self) -> grpc.GenericRpcHandler:
        """What a server registers."""
        check: Handler = grpc.unary_unary_rpc_method_handler(self.Check)
        return grpc.method_handlers_generic_handler(SERVICE_NAME, {"Check": check})

    async def Check(self, encoded: bytes, context: Context) -> bytes:  # noqa: N802 - gRPC's name
        """Decide on an HTTP request; request and response are encoded."""
        try:
            caller = self._admission.identify(context)
            check = EncodedCheck.of(encoded)
        except Exception as error:  # noqa: BLE001 - an unexpected error denies access, too
            end_with_status(error, context)
            return b""
        if self._audit is None:
            return await self._response(check, Call(), caller, context)
        audited = self._audit.begin(check, caller, traceparent_of(context))
        if audited is None:
            return await self._response(check, Call(), caller, context)
        try:
            return await self._response(check, Call(audited=audited), caller, context)
        except asyncio.CancelledError:
            audited.cancelled()
            raise
        finally:
            audited.record()

    async def _response(
        self, check: EncodedCheck, call: Call, caller: Caller, context: Context
    ) -> bytes:
        """The response to a request, whatever becomes of it."""
        try:
            if (response := self._repeated.response(check, caller, call.audited)) is not None:
                self._admission.count(caller)
                self._checks.answers[ALLOWED] += 1
                self._checks.resolves.cached += 1
                return response
            with self._tracing.server_span("Check", traceparent_of(context) or check.traceparent()):
                if call.audited is not None:
                    call.audited.traced(self._tracing.traceparent())
                return await self._decided(check, call, caller, context)
        except Refusal as refusal:
            return self._denied(refusal, call)
        except AuthError as error:
            return self._denied(refusals.refusal_of(error, in_session=False, scopes=()), call)
        except Exception as error:  # noqa: BLE001 - fails closed
            log_unexpected(log, "a check failed unexpectedly", error)
            return self._denied(refusals.internal_error(), call)

    async def _decided(
        self, check: EncodedCheck, call: Call, caller: Caller, context: Context
    ) -> bytes:
        """The response to a request.

        Raises:
            AuthError: it is denied before it is read.
            Refusal: likewise.
        """
        set_client(check, self._client_address_header)
        request = CheckedRequest.of(check)
        route = self._route_of(request, caller)
        if call.audited is not None:
            call.audited.of_route(route)
        with self._admission.call_for(route.resource, context, caller):
            checks = self._checks_of(route, caller)
            try:
                decided = await checks.decide(request, call)
                if isinstance(decided, Answer):
                    return self._answered(decided, call, _metadata(route))
                return self._allowed(check, request, decided, call, checks, caller)
            except Refusal as refusal:
                if refusal.reason == Reason.CALLER_NOT_ALLOWED.name:
                    error = AuthError(Reason.CALLER_NOT_ALLOWED, refusal.message)
                    self._admission.audit_denial(error, caller.name, context, route.resource)
                return self._denied(refusal, call, checks)

    def _route_of(self, request: CheckedRequest, caller: Caller) -> Route:
        """
        Raises:
            AuthError: CALLER_NOT_ALLOWED: no resource is known for the request. That is no security
                event: the gateway has asked about nothing that is not its own, and any client
                causes it.
            Refusal: 404: the same, where clients look for metadata.
        """
        if request.resource:
            return self._routes.of(caller.spelled(request.resource))
        route = self._routes.at(request.host, request.path)
        if route is not None:
            return route
        self._admission.count(caller)
        if is_metadata_path(unquote(request.path)):
            raise refusals.no_metadata()
        where = f"{request.host}{request.path}"[:SHOWN_CHARACTERS]
        setting = "ext_authz.routes"
        if self._unrouted.may_pass(caller.name):
            log.warning(
                "refused: the gateway %r names no resource, and %r is at no route%s",
                caller.name,
                where,
                of_setting(setting),
                extra={"setting": setting},
            )
        raise AuthError(Reason.CALLER_NOT_ALLOWED)

    def _checks_of(self, route: Route, caller: Caller) -> RouteChecks:
        """For a route that the gateway may ask about."""
        key = caller.name, route.resource
        if (found := self._route_checks.get(key)) is None:
            resolver = CallerResolver(
                self._resolver, caller, self._checks.resolves, wanted=route.wanted
            )
            found = self._route_checks[key] = RouteChecks(route, resolver, self._turns)
        return found

    def _allowed(
        self,
        check: EncodedCheck,
        request: CheckedRequest,
        admitted: Admitted,
        call: Call,
        checks: RouteChecks,
        caller: Caller,
    ) -> bytes:
        """
        Raises:
            Refusal: there is no assertion.
        """
        resolution, route = admitted.resolution, checks.route
        assertion = self._assertion(admitted, route) if resolution.principal else ""
        changes = upstream_headers.changes(
            request,
            admitted,
            assertion=assertion,
            credentials=resolution.credentials,
            mints=not route.adopt_sessions,
        )
        self._checks.answers[ALLOWED] += 1
        response = check_responses.allowed(changes, _metadata(route, resolution))
        if call.audited is not None:
            call.audited.allowed(resolution)
        self._repeated.put(check, caller, checks, admitted, assertion, response)
        return response + check_responses.of_call(call.method, call.tool)

    def _assertion(self, admitted: Admitted, route: Route) -> str:
        """
        Raises:
            Refusal: there is none: no key signs, or the token ends within a second.
        """
        request, needed = admitted.request, admitted.needed
        digest = token_digest(request.token)
        try:
            return self._signer.assertion(
                admitted.resolution, resource=route.resource, token_digest=digest
            )
        except AuthError as error:
            log.log(
                logging.WARNING if error.reason is Reason.KEYS_UNAVAILABLE else logging.INFO,
                "no assertion: %s",
                error,
                extra={"reason": error.reason.name},
            )
            raise refusals.refusal_of(
                error,
                in_session=bool(request.session_id),
                scopes=needed.scopes if needed else (),
            ) from None

    def _denied(self, refusal: Refusal, call: Call, checks: RouteChecks | None = None) -> bytes:
        if call.audited is not None:
            call.audited.denied(refusal)
        answer = refusal.answer(
            call.request_id, resource_metadata=checks.resource_metadata if checks else ""
        )
        found = _metadata(checks.route if checks else None, refusal.resolution)
        return self._answered(answer, call, {**found, "reason": refusal.reason})

    def _answered(self, answer: Answer, call: Call, metadata: Metadata) -> bytes:
        self._checks.answers[str(answer.status.value)] += 1
        response = check_responses.denied(answer, {k: v for k, v in metadata.items() if v})
        return response + check_responses.of_call(call.method, call.tool)


def _metadata(
    route: Route | None, resolution: Resolution | None = None
) -> dict[str, str | tuple[str, ...]]:
    """What other filters of the gateway and its access log may see: no token, no credential, and
    of a session's id what logs show."""
    found: dict[str, str | tuple[str, ...]] = {"resource": route.resource if route else ""}
    if resolution is None:
        return found
    if resolution.session is not None:
        found["session"] = shown(resolution.session.id)
    if resolution.outcome is not None:
        found["outcome"] = resolution.outcome.name.lower()
    elif resolution.principal is None:
        found["outcome"] = ANONYMOUS
    if (who := resolution.principal) is not None:
        found |= {
            "issuer": who.issuer,
            "subject": who.subject,
            "client_id": who.client_id,
            "actor": who.actor.subject if who.actor is not None else "",
            "scopes": who.scopes,
        }
    return {name: value for name, value in found.items() if value}
