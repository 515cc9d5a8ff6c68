"""What each page shows, asked of authsvc."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from urllib.parse import urlencode

from jinja2 import Environment
from starlette.responses import HTMLResponse, RedirectResponse, Response

from authsvc.client import AdminClient
from authsvc.console.feed import Feed
from authsvc.console.logins import Ask, Login
from authsvc.console.plots import BARS, HEIGHT, WIDTH, WINDOWS, plots
from authsvc.console.revoking import (
    EVERYONE_WORD,
    FormError,
    check_issuer,
    named,
    outcome,
    place_after,
    target_of,
)
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import EventType, RecordFilter, revoked_since
from authsvc.domain.record import Record
from authsvc.domain.revocation_target import (
    EveryoneTarget,
    RevocationTarget,
    SubjectTarget,
    TokenTarget,
)
from authsvc.domain.service_status import IssuerState, ServiceStatus, SessionCounts

log = logging.getLogger(__name__)

PAGE_SIZE = 50
EVENTS_SHOWN = 200
LATEST_SHOWN = 12

COUNT_SECONDS = 15.0
"""Sessions are counted so often, however many look on: authsvc reads records for it."""

STATES = {"": None, "authenticated": True, "unauthenticated": False}
"""What the filter by state may say."""


class Pages:
    """The pages for operators.

    Args:
        client: an operator's.
        feed: what has happened.
        templates: how it is shown.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        client: AdminClient,
        feed: Feed,
        templates: Environment,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._feed = feed
        self._templates = templates
        self._clock = clock
        self._counts: SessionCounts | None = None
        self._count_time = -COUNT_SECONDS

    async def overview(self, ask: Ask) -> Response:
        """How things are: counts, rates and the latest events."""
        is_due = not 0 <= self._clock() - self._count_time < COUNT_SECONDS
        status, problem = await self._status(count_sessions=is_due)
        if status is not None and status.sessions is not None:
            self._counts, self._count_time = status.sessions, self._clock()
        window = ask.values.get("window", "")
        if window not in WINDOWS:
            window = next(iter(WINDOWS))
        return self._page(
            "overview",
            ask.login,
            status=status,
            counts=self._counts if status else None,
            problem=problem,
            window=window,
            windows=WINDOWS,
            bars=BARS,
            width=WIDTH,
            height=HEIGHT,
            plots=plots(self._feed, window, self._clock()),
            events=self._feed.recent(LATEST_SHOWN),
        )

    async def sessions(self, ask: Ask) -> Response:
        """Sessions that match, a page of them.

        Raises:
            AuthError: of the call.
        """
        names = ("issuer", "subject", "state", "resource")
        chosen = {name: ask.values.get(name, "") for name in names}
        if chosen["state"] not in STATES:
            chosen["state"] = ""
        which = RecordFilter(
            chosen["issuer"], chosen["subject"], STATES[chosen["state"]], chosen["resource"]
        )
        page_token = ask.values.get("page_token", "")
        listed = await self._client.page(which, page_size=PAGE_SIZE, page_token=page_token)
        return self._page(
            "sessions",
            ask.login,
            records=listed.records,
            chosen=chosen,
            is_filtered=any(chosen.values()),
            is_first=not page_token,
            first_url=_url("/sessions", chosen),
            next_url=listed.next_page_token
            and _url("/sessions", {**chosen, "page_token": listed.next_page_token}),
        )

    async def session(self, ask: Ask) -> Response:
        """One session, and what has happened to it.

        Raises:
            AuthError: of the call.
        """
        session_id = ask.values.get("id", "")
        try:
            record = await self._client.get(session_id)
        except AuthError as error:
            if error.reason is not Reason.SESSION_NOT_FOUND:
                raise
            return self._page("no_session", ask.login, status_code=404, session_id=session_id)
        return self._page("session", ask.login, record=record, events=self._feed.about(record))

    async def events(self, ask: Ask) -> Response:
        """What has happened, newest first."""
        return self._page("events", ask.login, events=self._feed.recent(EVENTS_SHOWN))

    async def issuers(self, ask: Ask) -> Response:
        """Issuers, their keys, and the process that answers."""
        status, problem = await self._status()
        return self._page("issuers", ask.login, status=status, problem=problem)

    async def choose(self, ask: Ask) -> Response:
        """What to revoke."""
        return await self._choice(ask.login, ask.values)

    async def review(self, ask: Ask) -> Response:
        """What would be revoked, before it is."""
        try:
            target = await self._target(ask)
        except FormError as error:
            return await self._choice(ask.login, ask.values, str(error))
        return self._reviewed(ask, await self._affected(target))

    async def revoke(self, ask: Ask) -> Response:
        """Revoke it.

        Raises:
            AuthError: of the call.
        """
        try:
            target = await self._target(ask)
        except FormError as error:
            return await self._choice(ask.login, ask.values, str(error))
        if isinstance(target, EveryoneTarget) and ask.values.get("word") != EVERYONE_WORD:
            return self._reviewed(ask, problem=f"Type “{EVERYONE_WORD}” to revoke everything.")
        revoked = await self._client.revoke(target)
        who = {"operator": ask.login.operator.name}
        log.info("revoked: %s", ask.values["what"], extra={**who, **named(target)})
        ask.login.notice = outcome(target, revoked)
        return RedirectResponse(place_after(target), 303)

    async def _target(self, ask: Ask) -> RevocationTarget:
        """What is to be revoked.

        Raises:
            FormError: as ``target_of``; or its issuer is not configured, so that a misspelt name
                would revoke nothing.
        """
        target = target_of(ask.values, self._clock())
        if isinstance(target, SubjectTarget | TokenTarget):
            status, _ = await self._status()
            # Without an answer the form goes on: authsvc itself checks the issuer, too.
            issuers = [it.issuer for it in status.issuers] if status else [target.issuer]
            check_issuer(target, issuers)
        return target

    async def _choice(self, login: Login, values: Mapping[str, str], problem: str = "") -> Response:
        status, _ = await self._status()
        return self._page(
            "revoke",
            login,
            status_code=400 if problem else 200,
            problem=problem,
            values=values,
            issuers=[issuer.issuer for issuer in status.issuers] if status else [],
        )

    def _reviewed(
        self, ask: Ask, affected: list[Record] | None = None, problem: str = ""
    ) -> Response:
        return self._page(
            "review",
            ask.login,
            status_code=400 if problem else 200,
            problem=problem,
            values=ask.values,
            affected=affected,
            page_size=PAGE_SIZE,
            word=EVERYONE_WORD,
        )

    async def _affected(self, target: object) -> list[Record] | None:
        """Sessions of the subject whose tokens would be revoked; None where that is not asked."""
        if not isinstance(target, SubjectTarget):
            return None
        which = RecordFilter(issuer=target.issuer, subject=target.subject)
        return list((await self._client.page(which, page_size=PAGE_SIZE)).records)

    async def _status(
        self, *, count_sessions: bool = False
    ) -> tuple[ServiceStatus | None, Reason | None]:
        """How authsvc is, or why it cannot be asked."""
        try:
            return await self._client.status(count_sessions=count_sessions), None
        except AuthError as error:
            return None, error.reason

    def _page(
        self, name: str, login: Login, *, status_code: int = 200, **values: object
    ) -> Response:
        page = self._templates.get_template(f"{name}.html").render(
            login=login,
            page=name,
            feed=self._feed,
            now=self._clock(),
            notice=login.take_notice(),
            EventType=EventType,
            IssuerState=IssuerState,
            revoked_since=revoked_since,
            **values,
        )
        return HTMLResponse(page, status_code)


def _url(path: str, values: Mapping[str, str]) -> str:
    query = urlencode({name: value for name, value in values.items() if value})
    return f"{path}?{query}" if query else path
