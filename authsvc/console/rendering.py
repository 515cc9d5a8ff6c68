"""Pages made of templates."""

from __future__ import annotations

from collections.abc import Callable

from jinja2 import Environment
from starlette.responses import HTMLResponse, Response

from authsvc.console.feed import Feed
from authsvc.console.logins import Login
from authsvc.domain.events import EventType, revoked_since, state_of
from authsvc.domain.service_status import IssuerState


class Renderer:
    """Renders pages for operators who are signed in.

    Args:
        templates: of the pages.
        feed: events, which most pages show.
        clock: seconds since the epoch.
    """

    def __init__(self, templates: Environment, feed: Feed, clock: Callable[[], float]) -> None:
        self._templates = templates
        self._feed = feed
        self._clock = clock

    def page(
        self, name: str, login: Login, *, status_code: int = 200, **values: object
    ) -> Response:
        """A page.

        Args:
            name: of its template.
            login: the operator's.
            status_code: of HTTP.
            values: for the template.
        """
        page = self._templates.get_template(f"{name}.html").render(
            login=login,
            page=name,
            feed=self._feed,
            now=self._clock(),
            notice=login.take_notice(),
            EventType=EventType,
            IssuerState=IssuerState,
            revoked_since=revoked_since,
            state_of=state_of,
            **values,
        )
        return HTMLResponse(page, status_code)
