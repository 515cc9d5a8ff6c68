"""Session ids in responses: a client gets only those that authsvc knows."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.types import Message, Send

from authsvc.domain.resolution import shown
from authsvc.http_auth.headers import SESSION_ID
from authsvc.http_auth.refusals import Refusal

log = logging.getLogger(__name__)

_HEADER = SESSION_ID.encode()

SessionIdOf = Callable[[str], Awaitable[str]]
"""From the session id in the app's response, empty without one, to the one that the client gets;
empty for none. Raises ``Refusal`` where there is to be no session."""


class InitializeResponse:
    """The response to an ``initialize``.

    Args:
        send: towards the client.
        session_id_of: called once, for a 200, which has the InitializeResult.
        refuse: answers the request in the app's place.

    Attributes:
        session_id: the id that the client got; empty for none, or while there is no response.
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
        self.session_id = ""

    async def __call__(self, message: Message) -> None:
        """Pass on what the app sends; nothing, once the session was refused."""
        if self._is_refused:
            return
        message, named = _separated(message)
        if message["type"] == "http.response.start" and message["status"] == HTTPStatus.OK:
            try:
                session_id = await self._session_id_of(", ".join(named))
            except Refusal as refusal:
                self._is_refused = True
                await self._refuse(refusal)
                return
            message, self.session_id = _with(message, session_id), session_id
        await self._send(message)


class SessionResponse:
    """Any other response: it bears the id of the request's session, or none.

    Args:
        send: towards the client.
        session_id: of the session that the request was authorised for; empty for none.
    """

    def __init__(self, send: Send, session_id: str) -> None:
        self._send = send
        self._session_id = session_id

    async def __call__(self, message: Message) -> None:
        """Pass on what the app sends, without another's session id."""
        message, named = _separated(message)
        if self._session_id and self._session_id in named:
            message = _with(message, self._session_id)
        elif named:
            log.error("the app named a session that is not the request's: %s", shown(named[0]))
        await self._send(message)


def _separated(message: Message) -> tuple[Message, list[str]]:
    """A message without session ids in its headers, and those that were there."""
    headers = message.get("headers")
    if not headers:
        return message, []
    kept = [(name, value) for name, value in headers if name.lower() != _HEADER]
    if len(kept) == len(headers):
        return message, []
    named = [value.decode("latin-1") for name, value in headers if name.lower() == _HEADER]
    return {**message, "headers": kept}, named


def _with(message: Message, session_id: str) -> Message:
    if not session_id:
        return message
    header = (_HEADER, session_id.encode("latin-1"))
    return {**message, "headers": [*message.get("headers", ()), header]}
