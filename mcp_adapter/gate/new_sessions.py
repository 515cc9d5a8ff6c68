"""Which session id the answer to an ``initialize`` bears."""

from __future__ import annotations

import logging

from authsvc.domain.errors import Reason
from authsvc.domain.resolution import Outcome, Resolution, shown
from authsvc.http_auth import refusals
from authsvc.http_auth.refusals import Refusal
from authsvc.http_auth.request_headers import RequestHeaders
from authsvc.http_auth.resolving import RequestResolver

log = logging.getLogger(__name__)

_FAULTS_OF_THE_APP = {
    reason.name
    for reason in (
        Reason.SESSION_ID_INVALID,
        Reason.SESSION_NOT_FOUND,
        Reason.SESSION_EXPIRED,
        Reason.SESSION_REVOKED,
        Reason.SESSION_SUBJECT_MISMATCH,
    )
}
"""Why a session id that an app has minted is not adopted, whatever client it is for."""


class NewSessions:
    """Decides on the session ids of the answers to ``initialize``.

    Args:
        resolving: registers what an app has minted.
        stateful: whether the app keeps sessions of its own.

    Attributes:
        are_the_apps: the same.
    """

    def __init__(self, resolving: RequestResolver, *, stateful: bool) -> None:
        self._resolving = resolving
        self.are_the_apps = stateful
        self._has_warned = False

    async def session_id(self, request: RequestHeaders, resolution: Resolution, minted: str) -> str:
        """The id that the client gets; empty for none.

        Args:
            request: the ``initialize``.
            resolution: what it was served with.
            minted: the app's id; empty without one.

        Raises:
            Refusal: there is to be no session.
        """
        if self.are_the_apps:
            if minted:
                await self._adopt(minted, request)
            elif not self._has_warned:
                self._has_warned = True
                log.warning(
                    "the app has answered an initialize without an Mcp-Session-Id, so its client "
                    "has no session: make the app stateful, or leave out stateful=True"
                )
            return minted
        if minted:
            log.error("the app keeps sessions: make it stateless, or the gate stateful")
            raise refusals.internal_error()
        return resolution.session.id if resolution.session else ""

    async def _adopt(self, session_id: str, request: RequestHeaders) -> None:
        """
        Raises:
            Refusal: the session cannot be had.
        """
        try:
            resolution = await self._resolving.adopt(session_id, request)
        except Refusal as refusal:
            if refusal.reason not in _FAULTS_OF_THE_APP:
                raise
            resolution = Resolution()
        if resolution.outcome is not Outcome.CREATED:
            # It exists already, so it is another client's: the two would share a session.
            log.error("the app minted a session id that cannot be had: %s", shown(session_id))
            raise refusals.internal_error()
