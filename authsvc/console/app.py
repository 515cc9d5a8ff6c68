"""The console as an ASGI app: its routes, and the check that an operator is signed in."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from authsvc.client.admin import AdminClient
from authsvc.console.config import ConsoleSettings
from authsvc.console.feed import Feed
from authsvc.console.forms import posted_form
from authsvc.console.guard import Guard
from authsvc.console.logins import PageRequest
from authsvc.console.operators import OperatorsFile
from authsvc.console.pages import Pages
from authsvc.console.rendering import Renderer
from authsvc.console.revoke_pages import RevokePages
from authsvc.console.sign_in import SignIn
from authsvc.console.telemetry import STATIC, ConsoleMetrics, CountedRequests
from authsvc.console.views import environment
from authsvc.domain.errors import AuthError

_MEDIA_TYPES = {
    "console.css": "text/css",
    "console.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}

Handler = Callable[[PageRequest], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def build_app(
    settings: ConsoleSettings,
    *,
    client: AdminClient,
    operators: OperatorsFile,
    origins: Collection[str],
    metrics: ConsoleMetrics,
    clock: Callable[[], float],
) -> Starlette:
    """The console.

    Args:
        settings: of the console.
        client: for authsvc; open for as long as the app runs.
        operators: who may sign in.
        origins: where browsers find the console.
        metrics: of the console.
        clock: seconds since the epoch.
    """
    console = Console(settings, client, operators, clock)
    routes = console.routes()
    return Starlette(
        routes=routes,
        middleware=[
            # First, as the guard answers, too.
            Middleware(CountedRequests, metrics=metrics, pages={it.path for it in routes}),
            Middleware(Guard, origins=origins, secure=settings.is_secure),
        ],
        exception_handlers={
            HTTPException: console.http_error,
            AuthError: console.auth_error,
        },
        lifespan=console.lifespan,
    )


class Console:
    """The routes. Every page is for operators who are signed in, except the sign-in page.

    Args:
        settings: of the console.
        client: for authsvc.
        operators: who may sign in.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        settings: ConsoleSettings,
        client: AdminClient,
        operators: OperatorsFile,
        clock: Callable[[], float],
    ) -> None:
        self._templates = environment(clock)
        self._sign_in = SignIn(settings, operators, self._templates, clock)
        self._feed = Feed(client, events_kept=settings.events_kept, clock=clock)
        renderer = Renderer(self._templates, self._feed, clock)
        self._pages = Pages(client, self._feed, renderer, clock)
        self._revoke_pages = RevokePages(client, renderer, clock)

    def routes(self) -> list[Route]:
        """All routes."""
        pages, revoking, sign_in = self._pages, self._revoke_pages, self._sign_in
        return [
            Route(f"{STATIC}/{{name}}", _static, methods=["GET"]),
            Route("/sign-in", sign_in.form, methods=["GET"]),
            Route("/sign-in", sign_in.submit, methods=["POST"]),
            Route("/sign-out", self._post(sign_in.sign_out), methods=["POST"]),
            Route("/", self._get(pages.overview), methods=["GET"]),
            Route("/sessions", self._get(pages.sessions), methods=["GET"]),
            Route("/session", self._get(pages.session), methods=["GET"]),
            Route("/events", self._get(pages.events), methods=["GET"]),
            Route("/issuers", self._get(pages.issuers), methods=["GET"]),
            Route("/signals", self._get(pages.signals), methods=["GET"]),
            Route("/revoke", self._get(revoking.choose), methods=["GET"]),
            Route("/revoke/review", self._get(revoking.review), methods=["GET"]),
            Route("/revoke", self._post(revoking.revoke), methods=["POST"]),
        ]

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Watch sessions while the app runs."""
        watching = asyncio.create_task(self._feed.run(), name="watch sessions")
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def http_error(self, request: Request, error: Exception) -> Response:
        """The page for an error of the request itself."""
        status, detail = 500, ""
        if isinstance(error, HTTPException):
            status, detail = error.status_code, error.detail
        return self._error_page(request, status, "That did not work", detail)

    async def auth_error(self, request: Request, error: Exception) -> Response:
        """The page for an error of authsvc, or for authsvc being unavailable."""
        reason = error.reason if isinstance(error, AuthError) else None
        status = _HTTP_STATUSES.get(reason.status.name if reason else "", 502)
        title = reason.name if reason else "That did not work"
        return self._error_page(request, status, title, reason.message if reason else "")

    def _get(self, handler: Handler) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            login = self._sign_in.login(request)
            if login is None:
                return RedirectResponse("/sign-in", 303)
            return await handler(PageRequest(login, dict(request.query_params)))

        return endpoint

    def _post(self, handler: Handler) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            login = self._sign_in.login(request)
            if login is None:
                return RedirectResponse("/sign-in", 303)
            form = await posted_form(request)
            token = form.get("csrf_token", "")
            if not hmac.compare_digest(token.encode(), login.csrf_token.encode()):
                raise HTTPException(403, "The form is not one of yours. Load the page again.")
            return await handler(PageRequest(login, form))

        return endpoint

    def _error_page(self, request: Request, status: int, title: str, detail: str) -> Response:
        page = self._templates.get_template("error.html").render(
            login=self._sign_in.login(request), page="", title=title, detail=detail
        )
        return HTMLResponse(page, status)


_HTTP_STATUSES = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 503,
    "ABORTED": 503,
    "UNAVAILABLE": 503,
}
"""By gRPC status. Any other means that authsvc does not accept the console as a caller: 502."""


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    media_type = _MEDIA_TYPES.get(name)
    if media_type is None:
        raise HTTPException(404, "There is no such file.")
    content = files("authsvc.console").joinpath("static", name).read_bytes()
    return Response(content, media_type=media_type)
