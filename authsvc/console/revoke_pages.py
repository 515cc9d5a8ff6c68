"""The pages to revoke: choose, review, and revoke."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from starlette.responses import RedirectResponse, Response

from authsvc.client.admin import AdminClient
from authsvc.client.session_lookup import ShortPrefixError, find_sessions, prefix_of
from authsvc.console.logins import Login, PageRequest
from authsvc.console.rendering import Renderer
from authsvc.console.revocation_forms import (
    EVERYONE_WORD,
    SHORT_PREFIX,
    FormError,
    check_issuer,
    log_fields,
    notice_of,
    page_after,
    several,
    target_of,
)
from authsvc.console.service import ask_service
from authsvc.domain.events import RecordFilter
from authsvc.domain.record import Record
from authsvc.domain.revocation_target import (
    EveryoneTarget,
    RevocationTarget,
    SubjectTarget,
    TokenTarget,
)

log = logging.getLogger(__name__)

TargetHandler = Callable[[PageRequest, RevocationTarget], Awaitable[Response]]

AFFECTED_SHOWN = 50
"""Sessions of a subject that the review counts, at most."""


class RevokePages:
    """The pages to revoke.

    Args:
        client: for authsvc.
        renderer: of pages.
        clock: seconds since the epoch.
    """

    def __init__(self, client: AdminClient, renderer: Renderer, clock: Callable[[], float]) -> None:
        self._client = client
        self._renderer = renderer
        self._clock = clock

    async def choose(self, request: PageRequest) -> Response:
        """The forms to choose a target."""
        return await self._choice(request.login, request.values)

    async def review(self, request: PageRequest) -> Response:
        """What would be revoked, and the button that revokes it.

        Raises:
            AuthError: of the calls.
        """
        try:
            record = await self._session_meant(request)
        except FormError as error:
            return await self._choice(request.login, request.values, str(error))
        if record is not None:
            # The form that confirms has the whole id: a confirmation never looks for a session.
            request = replace(request, values={**request.values, "session_id": record.id})

        async def show(request: PageRequest, target: RevocationTarget) -> Response:
            return self._review(request, record=record, affected=await self._affected(target))

        return await self._with_target(request, show)

    async def revoke(self, request: PageRequest) -> Response:
        """Revoke.

        Raises:
            AuthError: of the calls.
        """
        return await self._with_target(request, self._revoke)

    async def _with_target(self, request: PageRequest, handler: TargetHandler) -> Response:
        """Handle a valid form; show the forms again with the problem of an invalid one."""
        try:
            target = await self._target(request)
        except FormError as error:
            return await self._choice(request.login, request.values, str(error))
        return await handler(request, target)

    async def _session_meant(self, request: PageRequest) -> Record | None:
        """The session that a form names, by its id or the beginning of it; None where the form
        names none.

        Raises:
            FormError: there is no such session, or several may be meant.
            AuthError: of the calls.
        """
        text = request.values.get("session_id", "")
        if request.values.get("what") != "session" or not text:
            return None
        try:
            found = await find_sessions(self._client, text)
        except ShortPrefixError:
            raise FormError(SHORT_PREFIX) from None
        if not found.records:
            raise FormError(
                "No session has this id, or one that begins so. It may have ended: there is "
                "nothing to revoke."
            )
        if len(found.records) > 1:
            raise FormError(several(prefix_of(text), found.records, has_more=found.has_more))
        return found.records[0]

    async def _revoke(self, request: PageRequest, target: RevocationTarget) -> Response:
        if isinstance(target, EveryoneTarget) and request.values.get("word") != EVERYONE_WORD:
            return self._review(request, problem=f"Type “{EVERYONE_WORD}” to revoke everything.")
        revoked = await self._client.revoke(target)
        fields = {"operator": request.login.operator.name, **log_fields(target)}
        log.info("revoked: %s", request.values["what"], extra=fields)
        request.login.notice = notice_of(target, revoked)
        return RedirectResponse(page_after(target), 303)

    async def _target(self, request: PageRequest) -> RevocationTarget:
        """
        Raises:
            FormError: as ``target_of``; or the issuer is not configured: a misspelt name would
                revoke nothing.
        """
        target = target_of(request.values, self._clock())
        if isinstance(target, SubjectTarget | TokenTarget):
            answer = await ask_service(self._client)
            # Without an answer the check is left to authsvc, which makes it as well.
            if answer.status is not None:
                check_issuer(target, answer.issuers)
        return target

    async def _choice(self, login: Login, values: Mapping[str, str], problem: str = "") -> Response:
        return self._renderer.page(
            "revoke",
            login,
            status_code=400 if problem else 200,
            problem=problem,
            values=values,
            issuers=(await ask_service(self._client)).issuers,
        )

    def _review(
        self,
        request: PageRequest,
        *,
        record: Record | None = None,
        affected: list[Record] | None = None,
        problem: str = "",
    ) -> Response:
        return self._renderer.page(
            "review",
            request.login,
            status_code=400 if problem else 200,
            problem=problem,
            values=request.values,
            record=record,
            affected=affected,
            page_size=AFFECTED_SHOWN,
            word=EVERYONE_WORD,
        )

    async def _affected(self, target: RevocationTarget) -> list[Record] | None:
        """The sessions of a subject whose tokens would be revoked; None for other targets."""
        if not isinstance(target, SubjectTarget):
            return None
        which = RecordFilter(issuer=target.issuer, subject=target.subject)
        return list((await self._client.page(which, page_size=AFFECTED_SHOWN)).records)
