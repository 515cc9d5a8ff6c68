"""Whether a request to an MCP server is admitted, and as whom. ASGI and gRPC ask in one way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from authsvc.domain.rates import CallCounts
from authsvc.domain.resolution import Resolution
from authsvc.http_auth import eras, forwarding, messages, refusals
from authsvc.http_auth.authorization import OWNER, authorize, completes_initialize, requirement_for
from authsvc.http_auth.refusals import Answer, Refusal
from authsvc.http_auth.request_headers import RequestHeaders
from authsvc.http_auth.requirements import Requirement, RequirementOf
from authsvc.http_auth.resolving import RequestResolver
from authsvc.http_auth.sessions import Sessions


@dataclass(slots=True, repr=False)
class Admitted:
    """A request that the server may get.

    Attributes:
        request: its headers.
        needed: what it needs of its caller; None when it is open.
        resolution: its caller.
        opens_session: whether it is the ``initialize`` of a session.
    """

    request: RequestHeaders
    needed: Requirement | None
    resolution: Resolution
    opens_session: bool = False


class Authorizer:
    """Decides on the requests for one resource.

    Args:
        resolving: identifies callers.
        requirement: what a call needs.
        sessions: who mints their ids.
        streams: whether GET opens a stream of what the server sends by itself.
    """

    def __init__(
        self,
        resolving: RequestResolver,
        *,
        requirement: RequirementOf,
        sessions: Sessions,
        streams: bool,
    ) -> None:
        self._resolving = resolving
        self._requirement = requirement
        self._sessions = sessions
        methods = ("GET", "POST", "DELETE", "OPTIONS") if streams else ("POST", "DELETE", "OPTIONS")
        self._allow = {"Allow": ", ".join(methods)}

    async def message(
        self,
        request: RequestHeaders,
        message: messages.Message,
        *,
        observe: Callable[[], None] | None = None,
    ) -> Admitted:
        """Decide on a POST.

        Args:
            request: its headers.
            message: its body, parsed.
            observe: called once it is known how to read the request, before it is authorised; None
                for nothing.

        Raises:
            Refusal: it is not admitted; or that of ``observe``.
        """
        forwarding.check_message(request.version, message)
        opens_session = _opens_session(request, message)
        if observe is not None:
            observe()
        needed, counts = requirement_for(self._requirement, message)
        resolution = await self._resolving.identify(
            request, needed, opens_session=opens_session, counts=counts
        )
        if needed is None and not opens_session and self._is_owners(request, message, resolution):
            needed = OWNER
        authorize(resolution, needed, session_id=request.session_id)
        try:
            forwarding.check_routing(request.headers, request.version, message)
        except Refusal as refusal:
            refusal.resolution = resolution
            raise
        return Admitted(request, needed, resolution, opens_session)

    def admits(
        self, request: RequestHeaders, message: messages.Message, resolution: Resolution
    ) -> CallCounts | None:
        """What a POST counts as that has been resolved, with a principal, and is admitted; None
        where it is not, or opens a session: ``message`` says what becomes of it.

        Raises:
            Refusal: it is not admitted.
        """
        forwarding.check_message(request.version, message)
        if resolution.principal is None or _opens_session(request, message):
            return None
        needed, counts = requirement_for(self._requirement, message)
        forwarding.check_routing(request.headers, request.version, message)
        # Each message is its session's owner's: the session was resolved with the principal.
        is_admitted = needed is None or needed.met_by(resolution.principal.scopes)
        return counts if is_admitted else None

    async def owner(self, request: RequestHeaders) -> Admitted:
        """Decide on a GET or a DELETE, which are about a session as a whole.

        Raises:
            Refusal: the caller does not own it, or there are no sessions.
        """
        if not request.in_session_era:
            raise Refusal(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "This revision of MCP has no sessions.",
                headers=self._allow,
            )
        request.required_session_id()
        if not request.token:
            raise refusals.unauthenticated(OWNER.scopes)
        resolution = await self._resolving.identify(request, OWNER, opens_session=False)
        authorize(resolution, OWNER)
        return Admitted(request, OWNER, resolution)

    def other_method(self, method: str) -> Answer:
        """The answer to a method that is decided for every caller: OPTIONS, and those that are not
        served."""
        is_options = method == "OPTIONS"
        status = HTTPStatus.NO_CONTENT if is_options else HTTPStatus.METHOD_NOT_ALLOWED
        return Answer(status, self._allow)

    def _is_owners(
        self, request: RequestHeaders, message: messages.Message, resolution: Resolution
    ) -> bool:
        """Whether an open message needs its session's owner, as each message does in a session of
        the server's, but for the two that open it.

        At first use no owner is known yet: such a session has no record.
        """
        if self._sessions is Sessions.MINTED or not request.in_session_era:
            return False
        is_known = bool(request.session_id) and resolution.session is not None
        if self._sessions is Sessions.FIRST_USE and not is_known:
            return False
        return not completes_initialize(message)


def _opens_session(request: RequestHeaders, message: messages.Message) -> bool:
    """Whether the message opens a session.

    Raises:
        Refusal: 400 for a batch where the revision has none, or with ``initialize`` in it.
    """
    if isinstance(message, dict):
        return request.in_session_era and message.get("method") == "initialize"
    if request.version != eras.BATCH_VERSION:
        raise refusals.bad_request("Batches are not part of this revision of MCP.")
    if any(method == "initialize" for method, _ in messages.calls(message)):
        raise refusals.bad_request("initialize cannot be part of a batch.")
    return False
