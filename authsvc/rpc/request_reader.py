"""Reads the request of a unary call within a time limit."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from grpc import aio

from authsvc.access.usage import Limit
from authsvc.domain.errors import AuthError, Reason
from authsvc.rpc.admission import Admission, any_registered
from authsvc.rpc.metadata import Context

_LATE = Limit("no request in time", "limits.request_timeout_seconds")


class RequestReader:
    """Reads requests.

    Args:
        admission: identifies and admits callers.
        max_waiting: calls of open methods that may wait for their request at once.
        wait_seconds: how long a call may wait for its request.
    """

    def __init__(self, admission: Admission, *, max_waiting: int, wait_seconds: float) -> None:
        self._admission = admission
        self._max_waiting = max_waiting
        self._wait_seconds = wait_seconds
        self._waiting: OrderedDict[asyncio.Timeout, None] = OrderedDict()

    async def read(self, context: Context) -> object:
        """The request of a registered caller, which has the call in flight while it waits.

        Raises:
            AuthError: CALLER_NOT_ALLOWED; OVERLOADED: too many calls, or no request in time;
                ARGUMENT_INVALID: the client has sent none.
        """
        with self._admission.call(context, any_registered) as caller:
            try:
                async with asyncio.timeout(self._wait_seconds):
                    return _request(await context.read())
            except TimeoutError:
                raise self._admission.reached(_LATE, 1.0, caller.name) from None

    async def read_open(self, context: Context) -> object:
        """The request of an open method. Of too many calls the one that has waited longest ends.

        Raises:
            AuthError: OVERLOADED: no request in time; ARGUMENT_INVALID: the client has sent none.
        """
        try:
            async with asyncio.timeout(self._wait_seconds) as timeout:
                self._waiting[timeout] = None
                try:
                    if len(self._waiting) > self._max_waiting:
                        oldest, _ = self._waiting.popitem(last=False)
                        # One whose time is up may not have left the block yet.
                        if not oldest.expired():
                            oldest.reschedule(asyncio.get_running_loop().time())
                    return _request(await context.read())
                finally:
                    self._waiting.pop(timeout, None)
        except TimeoutError:
            raise self._admission.reached(_LATE, 1.0) from None


def _request(message: object) -> object:
    if message is aio.EOF:
        raise AuthError(Reason.ARGUMENT_INVALID, "the call has no request")
    return message
