"""The session id on the answer to ``initialize``: nobody gets one that authsvc does not know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

from mcp_adapter.refusals import Refusal

HEADER = "mcp-session-id"

SessionIdOf = Callable[[str], Awaitable[str]]
"""From the id that the app's answer bears, empty without one, to the one that the client gets;
empty for none. Raises ``Refusal`` where there is to be no session."""


class Opening:
    """The answer to an ``initialize`` on its way out.

    Args:
        send: towards the client.
        session_id_of: asked once, for a 200. The InitializeResult is in one, and no error that
            matters here.
        refuse: answers the request in the app's place.
    """

    def __init__(
        self,
        send: Send,
        session_id_of: SessionIdOf,
        refuse: Callable[[Refusal], Awaitable[None]],
    ) -> None:
        self._send = send
        self._session_id_of = session_id_of
        self._refuse = refuse
        self._is_refused = False

    async def __call__(self, message: Message) -> None:
        """Pass on what the app sends; nothing, once the session was refused."""
        if self._is_refused:
            return
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            theirs = ", ".join(headers.getlist(HEADER))
            del headers[HEADER]
            try:
                if message["status"] == HTTPStatus.OK and (
                    session_id := await self._session_id_of(theirs)
                ):
                    headers[HEADER] = session_id
            except Refusal as refusal:
                self._is_refused = True
                await self._refuse(refusal)
                return
        await self._send(message)
