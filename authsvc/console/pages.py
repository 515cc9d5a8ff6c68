"""The pages that show sessions, events, issuers, signals and rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import Response

from authsvc.client.admin import AdminClient
from authsvc.client.session_lookup import ShortPrefixError, find_sessions, prefix_of
from authsvc.console.feed import Feed
from authsvc.console.logins import PageRequest
from authsvc.console.plots import BARS, HEIGHT, WIDTH, WINDOWS, plots
from authsvc.console.rendering import Renderer
from authsvc.console.revocation_forms import SHORT_PREFIX
from authsvc.console.service import ask_service
from authsvc.domain.events import MIN_PREFIX_LENGTH, RecordFilter
from authsvc.domain.service_status import SessionCounts

PAGE_SIZE = 50
EVENTS_SHOWN = 200
LATEST_SHOWN = 12

COUNT_SECONDS = 15.0
"""Sessions are counted once in this time, for all operators: authsvc reads records for it."""

STATES = {"": None, "authenticated": True, "unauthenticated": False}
"""Values of the filter by state."""


class Pages:
    """The pages that show something.

    Args:
        client: for authsvc.
        feed: the events.
        renderer: of pages.
        clock: seconds since the epoch.
    """

    def __init__(
        self, client: AdminClient, feed: Feed, renderer: Renderer, clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._feed = feed
        self._renderer = renderer
        self._clock = clock
        self._counts: SessionCounts | None = None
        self._count_time = -COUNT_SECONDS

    async def overview(self, request: PageRequest) -> Response:
        """Counts, rates and the latest events."""
        is_due = not 0 <= self._clock() - self._count_time < COUNT_SECONDS
        answer = await ask_service(self._client, count_sessions=is_due)
        status = answer.status
        if status is not None and status.sessions is not None:
            self._counts, self._count_time = status.sessions, self._clock()
        window = request.values.get("window", "")
        if window not in WINDOWS:
            window = next(iter(WINDOWS))
        return self._renderer.page(
            "overview",
            request.login,
            status=status,
            counts=self._counts if status else None,
            problem=answer.problem,
            window=window,
            windows=WINDOWS,
            bars=BARS,
            width=WIDTH,
            height=HEIGHT,
            plots=plots(self._feed, window, self._clock()),
            events=self._feed.recent(LATEST_SHOWN),
        )

    async def sessions(self, request: PageRequest) -> Response:
        """A page of the sessions that match the filter.

        Raises:
            AuthError: of the call.
        """
        names = ("issuer", "subject", "state", "resource", "session")
        chosen = {name: request.values.get(name, "") for name in names}
        if chosen["state"] not in STATES:
            chosen["state"] = ""
        chosen["session"] = prefix_of(chosen["session"])
        if 0 < len(chosen["session"]) < MIN_PREFIX_LENGTH:
            raise HTTPException(400, SHORT_PREFIX)
        which = RecordFilter(
            chosen["issuer"],
            chosen["subject"],
            STATES[chosen["state"]],
            chosen["resource"],
            chosen["session"],
        )
        page_token = request.values.get("page_token", "")
        listed = await self._client.page(which, page_size=PAGE_SIZE, page_token=page_token)
        return self._renderer.page(
            "sessions",
            request.login,
            records=listed.records,
            chosen=chosen,
            is_filtered=any(chosen.values()),
            is_first=not page_token,
            first_url=_url("/sessions", chosen),
            next_url=listed.next_page_token
            and _url("/sessions", {**chosen, "page_token": listed.next_page_token}),
        )

    async def session(self, request: PageRequest) -> Response:
        """One session and its events, by its id or the beginning of it; or the sessions that may
        be meant.

        Raises:
            AuthError: of the calls.
        """
        text = request.values.get("id", "")
        try:
            found = await find_sessions(self._client, text)
        except ShortPrefixError:
            return self._no_session(request, text, SHORT_PREFIX, status_code=400)
        if not found.records:
            return self._no_session(request, text, status_code=404)
        if len(found.records) > 1:
            return self._renderer.page(
                "found",
                request.login,
                records=found.records,
                has_more=found.has_more,
                prefix=prefix_of(text),
            )
        (record,) = found.records
        return self._renderer.page(
            "session",
            request.login,
            record=record,
            events=self._feed.about(record),
            by_prefix=found.by_prefix,
            has_others=found.has_more,
        )

    def _no_session(
        self, request: PageRequest, text: str, problem: str = "", *, status_code: int
    ) -> Response:
        return self._renderer.page(
            "no_session",
            request.login,
            status_code=status_code,
            session_id=prefix_of(text),
            problem=problem,
        )

    async def events(self, request: PageRequest) -> Response:
        """The latest events, newest first."""
        return self._renderer.page("events", request.login, events=self._feed.recent(EVENTS_SHOWN))

    async def issuers(self, request: PageRequest) -> Response:
        """The issuers, their keys, and the authsvc process that answered."""
        answer = await ask_service(self._client)
        return self._renderer.page(
            "issuers", request.login, status=answer.status, problem=answer.problem
        )

    async def signals(self, request: PageRequest) -> Response:
        """The streams of signals, and what has come in each.

        Raises:
            AuthError: of the call.
        """
        streams = await self._client.signal_streams()
        return self._renderer.page("signals", request.login, streams=streams)


def _url(path: str, values: Mapping[str, str]) -> str:
    query = urlencode({name: value for name, value in values.items() if value})
    return f"{path}?{query}" if query else path
