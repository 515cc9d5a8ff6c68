"""Checks of a client that repeats its headers: the hot path, rows 8, 11 and 17.

What was read of the headers is cached, and the response to them. Each request is decided on anew by
its message, and by what the resolver and the signer have for it: they say whether token, session
and assertion are still valid. Anything but an admission is left to the decision in full.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from sys import getsizeof
from typing import Protocol

from authsvc.access.callers import Caller
from authsvc.common.lru import LruCache, bytes_for
from authsvc.domain.errors import AuthError
from authsvc.domain.resolution import Outcome, Resolution
from authsvc.domain.tokens import token_digest
from authsvc.gateways import check_responses
from authsvc.gateways.audited_checks import AuditedCheck
from authsvc.gateways.caller_resolver import Issued, request_digest
from authsvc.gateways.encoded_checks import EncodedCheck
from authsvc.gateways.route_checks import Call, RouteChecks
from authsvc.http_auth.authorizer import Admitted
from authsvc.http_auth.headers import Headers
from authsvc.http_auth.request_headers import RequestHeaders
from authsvc.resolver.resolver import SessionResolver

MAX_CACHED_CHECKS = 16_384

CHECK_BYTES = 8_000
"""What cached checks may take in memory, on average, as if they shared nothing with other caches.
Where they take more, fewer are cached."""

_OBJECTS_BYTES = 2_000


class Signer(Protocol):
    """Makes assertions."""

    def assertion(self, resolution: Resolution, *, resource: str, token_digest: bytes) -> str:
        """See ``assertions.signer.Assertions``."""
        ...


@dataclass(frozen=True, slots=True)
class _Repeated:
    """A check that may be repeated.

    Attributes:
        checks: of the route.
        headers: that were read, without the token.
        resolve: digest of the question to the resolver.
        token: digest of the token.
        assertion: for the upstream.
        response: to the check, but for what it says of the message.
    """

    checks: RouteChecks
    headers: RequestHeaders
    resolve: bytes
    token: bytes
    assertion: str = field(repr=False)
    response: bytes = field(repr=False)

    def memory_bytes(self) -> int:
        """What it takes in memory: an estimate."""
        return (
            _OBJECTS_BYTES
            + getsizeof(self.response)
            + getsizeof(self.assertion)
            + sum(len(name) + len(value) for name, value in self.headers.headers.raw)
        )


class RepeatedChecks:
    """The checks whose responses were used last.

    Args:
        resolver: says whether a resolution is still valid.
        signer: gives the assertion.
    """

    def __init__(self, resolver: SessionResolver, signer: Signer) -> None:
        self._resolver = resolver
        self._signer = signer
        self._repeated: LruCache[bytes, _Repeated] = LruCache(
            MAX_CACHED_CHECKS, bytes_for(MAX_CACHED_CHECKS, CHECK_BYTES)
        )

    def response(
        self, check: EncodedCheck, caller: Caller, audited: AuditedCheck | None = None
    ) -> bytes | None:
        """The response that admits a request; None where it has to be decided in full. Never waits.

        Args:
            check: the request.
            caller: the gateway.
            audited: gets what is known of the request; None where it is not audited.
        """
        if check.http.method != "POST" or not (body := check.whole_body()):
            return None
        repeated = self._repeated.get(check.digest(caller.name, body))
        if repeated is None or repeated.checks.route.resource not in caller.resources:
            return None
        cached = self._resolver.cached_response(repeated.resolve)
        if cached is None:
            return None
        if audited is not None:
            audited.of_route(repeated.checks.route)
        call = Call(audited=audited)
        counts = repeated.checks.admits(repeated.headers, body, cached.resolution, call)
        if counts is None:
            return None
        try:
            assertion = self._signer.assertion(
                cached.resolution, resource=cached.resource, token_digest=repeated.token
            )
        except AuthError:
            return None
        # One assertion is of one principal and one revision of a session, and the response names
        # nothing else of them.
        if assertion != repeated.assertion:
            return None
        if not self._resolver.call_limits.try_to_count_as(cached, counts):
            return None
        if audited is not None:
            audited.allowed(cached.resolution)
        return repeated.response + check_responses.of_call(call.method, call.tool)

    def put(
        self,
        check: EncodedCheck,
        caller: Caller,
        checks: RouteChecks,
        admitted: Admitted,
        assertion: str,
        response: bytes,
    ) -> None:
        """Cache the response to an admitted request, if it may come again.

        Args:
            check: the request.
            caller: the gateway.
            checks: of its route.
            admitted: what was decided.
            assertion: for the upstream.
            response: but for what it says of the message.
        """
        request, resolution = admitted.request, admitted.resolution
        body = check.whole_body()
        if (
            check.http.method != "POST"
            or not body
            or admitted.opens_session
            or resolution.principal is None
            # What was written is not resolved so again.
            or resolution.outcome is not Outcome.REUSED
            # Credentials are cached where they are renewed and revoked, and nowhere else.
            or (checks.route.credentials and resolution.credentials is not None)
        ):
            return
        token = token_digest(request.token)
        resource = checks.route.resource
        raw = [header for header in request.headers.raw if header[0] != b"authorization"]
        headers = RequestHeaders(Headers(raw), "", request.session_id, request.version)
        repeated = _Repeated(
            checks,
            headers,
            request_digest(
                request.session_id,
                token,
                resource,
                create=checks.creates(request),
                issued=Issued.of(checks.route.wanted),
            ),
            token,
            assertion,
            response,
        )
        self._repeated.put(check.digest(caller.name, body), repeated, repeated.memory_bytes())
