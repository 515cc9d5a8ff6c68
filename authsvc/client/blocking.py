"""``BlockingAuthClient``: ``AuthClient`` for callers that have threads and no event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from authsvc.client.client import AuthClient
from authsvc.client.tls import ClientTls
from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.rates import RateLimit
from authsvc.domain.resolution import Resolution

ResultT = TypeVar("ResultT")

MARGIN_SECONDS = 5.0
"""How much longer than its deadline the calling thread waits for a call."""


class BlockingAuthClient:
    """An ``AuthClient`` on an event loop in a thread of its own, shared by all threads.

    A call blocks until it is answered, at most for its deadline. A call that is interrupted, as by
    Ctrl-C, is cancelled at authsvc.

    It is used within ``with``, or between ``open`` and ``close`` where a framework has hooks for
    that, and may be opened again once it is closed.

    It does not survive a fork, because threads and connections do not: calls in a child process
    raise ``RuntimeError``. A server that forks its workers opens one in each of them.

    Args:
        target: see ``AuthClient``, as of the others.
        deadline_seconds: how long one call may take, connecting and retries included.
        tls: None for a socket of this machine.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: the target is invalid, or ``deadline_seconds`` is not a finite number above 0.
        OSError: a file of ``tls`` cannot be read, or does not hold what it should.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        deadline_seconds: float = 2.0,
        tls: ClientTls | None = None,
    ) -> None:
        self._client = AuthClient(target, deadline_seconds=deadline_seconds, tls=tls)
        self._wait_seconds = deadline_seconds + MARGIN_SECONDS
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process_id = 0

    def open(self) -> None:
        """Start its thread and its connections.

        Raises:
            RuntimeError: it is open already.
            OSError: there are no file descriptors for its event loop.
        """
        if self._loop is not None and self._process_id == os.getpid():
            raise RuntimeError("BlockingAuthClient is open already: open it once and share it")
        opened: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = Thread(target=self._run, args=(opened,), name="authsvc-client", daemon=True)
        self._thread.start()
        self._process_id = os.getpid()
        self._loop = opened.result()

    def close(self) -> None:
        """End its connections and its thread; what is closed stays so. Calls in flight fail."""
        loop, self._loop = self._loop, None
        if loop is not None and self._process_id == os.getpid():
            loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()

    def __enter__(self) -> Self:
        """Open it."""
        self.open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def resolve(
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
        """Decide on one request, by its session and its own token.

        Args:
            session_id: the session that the request names (``Mcp-Session-Id``); empty to ask by the
                token alone.
            token: the bare access token of this very request; empty without one.
            resource: canonical URI of the server that was asked (RFC 8707).
            create: whether an unknown session is created under this id.
            rate_limits: what the request counts towards, beside authsvc's own limits: for each call
                of its message, each of the call's limits once.
            calls: how many calls its message has, for authsvc's own limits by subject and client.
            recheck: whether a request that has been counted is checked again, as while its response
                streams: it counts as nothing.
            credentials: which credentials the answer has, each name once, in
                ``Resolution.named_credentials``; with none of them nothing is issued. None for
                those of the resource without a name, in ``Resolution.credentials``.

        Returns:
            Who makes the request, its session, and the credentials to work with. The principal is
            None for a request without a token.

        Raises:
            AuthError: the token or the session is rejected, or there is no answer; its ``reason``
                says why, and ``HttpError.of`` how to answer.
            RuntimeError: it is not open, or was opened by a parent process.
            TypeError: ``credentials`` are of another type.
            ValueError: there are too many of them, or two of one name.
        """
        return self._answer(
            self._client.resolve(
                session_id,
                token,
                resource=resource,
                create=create,
                rate_limits=rate_limits,
                calls=calls,
                recheck=recheck,
                credentials=credentials,
            )
        )

    def create(
        self,
        token: str,
        *,
        resource: str,
        rate_limits: Sequence[RateLimit] = (),
        credentials: Sequence[CredentialRequest] | None = None,
    ) -> Resolution:
        """Create a session under a new id.

        Args:
            token: the bare access token of the request; empty without one.
            resource: canonical URI of the server that was asked.
            rate_limits: as of ``resolve``.
            credentials: as of ``resolve``.

        Returns:
            As of ``resolve``; ``session.id`` is the new id.

        Raises:
            AuthError: as of ``resolve``.
            RuntimeError: it is not open, or was opened by a parent process.
            TypeError: ``credentials`` are of another type.
            ValueError: there are too many of them, or two of one name.
        """
        return self._answer(
            self._client.create(
                token, resource=resource, rate_limits=rate_limits, credentials=credentials
            )
        )

    def revoke(self, session_id: str) -> None:
        """End a session, for every resource. One that is unknown or has ended is no error.

        Args:
            session_id: the session.

        Raises:
            AuthError: it may not be ended by this caller, or there is no answer.
            RuntimeError: it is not open, or was opened by a parent process.
        """
        self._answer(self._client.revoke(session_id))

    def _run(self, opened: Future[asyncio.AbstractEventLoop]) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._serve(opened))
        except Exception as error:
            if opened.done():
                raise
            # The thread that opens it waits for that.
            opened.set_exception(error)

    async def _serve(self, opened: Future[asyncio.AbstractEventLoop]) -> None:
        self._closing = asyncio.Event()
        async with self._client:
            opened.set_result(asyncio.get_running_loop())
            await self._closing.wait()

    def _answer(self, call: Coroutine[Any, Any, ResultT]) -> ResultT:
        """
        Raises:
            AuthError: authsvc's own, or SERVICE_UNAVAILABLE.
            RuntimeError: it is not open, or was opened by a parent process.
        """
        if self._loop is None or self._process_id != os.getpid():
            call.close()
            raise RuntimeError(
                "BlockingAuthClient is not open: use it within `with`, or call open(); after a "
                "fork, in each process"
            )
        try:
            future = asyncio.run_coroutine_threadsafe(call, self._loop)
        except RuntimeError:
            call.close()
            raise
        try:
            return future.result(self._wait_seconds)
        except (TimeoutError, CancelledError):
            raise AuthError(Reason.SERVICE_UNAVAILABLE, "the client was closed or hangs") from None
        finally:
            # Cancels a call that nobody waits for; does nothing to one that is answered.
            future.cancel()
