"""Resolves the requests of unary calls and of streams: from the cache, or by the resolver."""

from __future__ import annotations

import time

from authsvc.access.callers import Caller
from authsvc.access.usage import REJECTED_TOKENS
from authsvc.domain.errors import AuthError
from authsvc.resolver.request import Request, bearer
from authsvc.resolver.resolver import SessionResolver
from authsvc.rpc.admission import Admission
from authsvc.telemetry.counts import Resolves
from authsvc.telemetry.spans import NoTracing, Tracing
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire import auth as wire
from authsvc.wire import credentials as credentials_wire


class RpcResolver:
    """``resolve_stream.Resolver`` over a ``SessionResolver``.

    Args:
        resolver: decides.
        admission: counts the calls that are never in flight.
        resolves: where results are counted.
        tracing: makes spans of the requests that are decided.
    """

    def __init__(
        self,
        resolver: SessionResolver,
        admission: Admission,
        resolves: Resolves,
        tracing: Tracing,
    ) -> None:
        self._tracing = tracing
        self._resolver = resolver
        self._admission = admission
        self._resolves = resolves
        # A trace has each decision in it.
        self._rejects_now = isinstance(tracing, NoTracing)

    def cached(self, request_digest: bytes, caller: Caller) -> bytes | None:
        """See ``resolve_stream.Resolver``."""
        response = self._resolver.cached_response(request_digest)
        if response is None or response.resource not in caller.resources:
            return None
        self._admission.count(caller)
        if response.uses:
            self._resolver.call_limits.count(response, caller.name)
        self._resolves.cached += 1
        if not response.encoded:
            response.encoded = wire.response_message(response.resolution).SerializeToString()
        return response.encoded

    def rejection(
        self, request: pb.ResolveSessionRequest | pb.CreateSessionRequest, caller: Caller
    ) -> AuthError | None:
        """See ``resolve_stream.Resolver``."""
        if request.resource not in caller.resources:
            # The answer would tell this caller whether a token or a session is known there.
            return None
        session_id = consistency_token = ""
        if isinstance(request, pb.ResolveSessionRequest):
            session_id = request.session_id
            consistency_token = request.consistency_token
        asked = Request(
            caller.name, session_id, bearer(request.token), request.resource, consistency_token
        )
        wait = self._resolver.seconds_until_check(asked)
        if wait > 0.0:
            self._admission.count(caller)
            return REJECTED_TOKENS.error(wait)
        return self._rejection_now(asked, caller) if self._rejects_now else None

    def _rejection_now(self, asked: Request, caller: Caller) -> AuthError | None:
        began = time.perf_counter()
        rejection = self._resolver.rejection_now(asked)
        if rejection is not None:
            self._resolves.seconds.observe(time.perf_counter() - began)
            self._admission.count(caller)
        return rejection

    async def resolve(
        self,
        request: pb.ResolveSessionRequest,
        request_digest: bytes,
        caller: Caller,
        traceparent: str,
    ) -> bytes:
        """See ``resolve_stream.Resolver``."""
        with self._resolves.deciding(), self._tracing.server_span("ResolveSession", traceparent):
            resolution = await self._resolver.resolve(
                request.session_id,
                request.token,
                resource=request.resource,
                create=request.create,
                caller=caller.name,
                consistency_token=request.consistency_token,
                request_digest=request_digest,
                counts=wire.counts_of(request),
                credentials=credentials_wire.selection_of(request),
            )
        self._resolves.answered(resolution)
        return wire.response_message(resolution).SerializeToString()

    def failed(self, error: Exception) -> None:
        """See ``resolve_stream.Resolver``."""
        self._resolves.failed(error)
