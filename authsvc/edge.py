"""The edge: who may pass, how often, what is written down of it, and what leaves the process."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
from grpc.aio import ServicerContext

from authsvc import audit, wire
from authsvc.callers import Caller, Callers
from authsvc.errors import AuthError, Reason, Status
from authsvc.limits import Usages

log = logging.getLogger(__name__)

ResponseT = TypeVar("ResponseT")
Context = ServicerContext[Any, Any]

STRANGER = ""
"""The name of whoever has not proven who it is."""


class Edge:
    """Who passes: the caller of each RPC is identified, rationed, and written down if refused.

    Args:
        callers: who is registered.
        usages: what each may ask for.
    """

    def __init__(self, callers: Callers, usages: Usages) -> None:
        self._callers = callers
        self._usages = usages

    @contextmanager
    def admitted(
        self, context: Context, authorize: Callable[[Caller], None], *, resource: str = ""
    ) -> Iterator[Caller]:
        """The caller, while it has a call in flight.

        Args:
            context: of the call.
            authorize: refuses a caller that may not make this call.
            resource: what the call is about.

        Raises:
            AuthError: CALLER_NOT_ALLOWED, OVERLOADED, or what ``authorize`` raises.
        """
        with self._audited(STRANGER, context):
            caller = identified(self._callers, context)
        with (
            self._usages.of(caller.name).call(),
            self._audited(caller.name, context, resource),
        ):
            authorize(caller)
            yield caller

    async def admit(self, context: Context) -> None:
        """Abort the call unless its caller is known."""
        await guarded(self._admit(context), context)

    async def _admit(self, context: Context) -> None:
        with self.admitted(context, _anybody_known):
            pass

    @contextmanager
    def _audited(self, caller: str, context: Context, resource: str = "") -> Iterator[None]:
        try:
            yield
        except AuthError as error:
            is_event = error.reason is Reason.CALLER_NOT_ALLOWED
            if is_event and self._usages.of(caller).may_record():
                audit.caller_refused(
                    error, caller=caller, peer=str(context.peer()), resource=resource[:200]
                )
            raise


def identified(callers: Callers, context: Context) -> Caller:
    """Who is calling, by the connection's certificate or the call's service token.

    Raises:
        AuthError: CALLER_NOT_ALLOWED.
    """
    presented = [
        value for key, value in context.invocation_metadata() or () if key == "authorization"
    ]
    if len(presented) > 1:
        raise AuthError(Reason.CALLER_NOT_ALLOWED, "two service tokens")
    scheme, _, service_token = str(presented[0] if presented else "").partition(" ")
    token = service_token.strip() if scheme.lower() == "bearer" else ""
    return callers.identify(certificate_names(context.auth_context()), token)


def certificate_names(auth_context: Mapping[str, Iterable[bytes]]) -> list[str]:
    """The DNS and URI names of a client certificate that the connection has proven.

    Each kind by its own: a DNS or mail name that spells a URI is not that URI.
    """
    uris = [name.decode("utf-8", "replace") for name in auth_context.get("peer_uri", ())]
    hosts = [name.decode("utf-8", "replace") for name in auth_context.get("peer_dns", ())]
    return [name for name in uris if ":" in name] + [name for name in hosts if ":" not in name]


def _anybody_known(caller: Caller) -> None:
    """Authorise every caller that is identified at all."""


async def guarded(work: Awaitable[ResponseT], context: Context) -> ResponseT:
    """The edge: every error becomes a status here, and nothing else leaves the process."""
    try:
        return await work
    except AuthError as error:
        _tell(error)
        status = wire.status_of(error)
        await context.abort(
            grpc.StatusCode[error.reason.status],
            status.message,
            trailing_metadata=((wire.STATUS_DETAILS_KEY, status.SerializeToString()),),
        )
    except Exception as error:  # noqa: BLE001 - whatever breaks, nobody gets in
        # The caller is told nothing of it, and the log has the frames without the message: what an
        # unknown exception quotes may be the token.
        frames = "".join(traceback.format_tb(error.__traceback__))
        log.error("a request failed unexpectedly: %s\n%s", type(error).__name__, frames)
        await context.abort(grpc.StatusCode.INTERNAL, "internal error")


OUTAGE_INTERVAL_SECONDS = 1.0
"""What is out of reach is written down so often, and not for each call that wanted it."""

_told: dict[Reason, float] = {}


def _tell(error: AuthError) -> None:
    """Tell the operator what the caller is not told: why something is out of reach."""
    if error.reason.status is not Status.UNAVAILABLE:
        return
    now = time.monotonic()
    if now - _told.get(error.reason, -OUTAGE_INTERVAL_SECONDS) >= OUTAGE_INTERVAL_SECONDS:
        _told[error.reason] = now
        log.warning("%s: %s", error.reason.name, error.detail or error.reason.message)
