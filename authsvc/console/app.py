"""The console as an ASGI app: who may see which page, and what is done where."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from authsvc.client import AdminClient
from authsvc.console.config import ConsoleSettings
from authsvc.console.feed import Feed
from authsvc.console.forms import posted_form
from authsvc.console.guard import Guard
from authsvc.console.logins import Ask, Login, Logins, SignInForms, Tries
from authsvc.console.operators import OperatorsFile
from authsvc.console.pages import Pages
from authsvc.console.views import environment
from authsvc.domain.errors import AuthError

log = logging.getLogger(__name__)

REFRESH_HEADER = "X-Console-Refresh"
"""Of a page that refreshes itself: nobody needs to be there for that."""

_MEDIA_TYPES = {
    "console.css": "text/css",
    "console.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


Handler = Callable[[Ask], Awaitable[Response]]


def build_app(
    settings: ConsoleSettings,
    *,
    client: AdminClient,
    operators: OperatorsFile,
    origins: Collection[str],
    clock: Callable[[], float],
) -> Starlette:
    """The console.

    Args:
        settings: how.
        client: an operator's, open for as long as the app runs.
        operators: who may sign in.
        origins: where browsers may find it.
        clock: seconds since the epoch.
    """
    console = Console(settings, client, operators, clock)
    return Starlette(
        routes=console.routes(),
        middleware=[Middleware(Guard, origins=origins, secure=settings.is_secure)],
        exception_handlers={
            HTTPException: console.refused,
            AuthError: console.out_of_reach,
        },
        lifespan=console.lifespan,
    )


class Console:
    """Routes, and who passes: every page but the one to sign in on is for operators alone."""

    def __init__(
        self,
        settings: ConsoleSettings,
        client: AdminClient,
        operators: OperatorsFile,
        clock: Callable[[], float],
    ) -> None:
        self._operators = operators
        self._secure = settings.is_secure
        # The prefix makes browsers refuse it from other hosts of the domain, and without TLS.
        prefix = "__Host-" if self._secure else ""
        self._cookie = f"{prefix}authsvc-console"
        self._sign_in_cookie = f"{prefix}authsvc-console-sign-in"
        self._logins = Logins(
            operators.get,
            idle_seconds=settings.session_idle_seconds,
            seconds=settings.session_seconds,
            clock=clock,
        )
        self._tries = Tries(clock)
        self._forms = SignInForms()
        self._feed = Feed(client, events_kept=settings.events_kept, clock=clock)
        self._templates = environment(clock)
        self._pages = Pages(client, self._feed, self._templates, clock)

    def routes(self) -> list[BaseRoute]:
        """All of them."""
        pages = self._pages
        return [
            Route("/static/{name}", _static, methods=["GET"]),
            Route("/sign-in", self._sign_in_form, methods=["GET"]),
            Route("/sign-in", self._sign_in, methods=["POST"]),
            Route("/sign-out", self._posted(self._signed_out), methods=["POST"]),
            Route("/", self._got(pages.overview), methods=["GET"]),
            Route("/sessions", self._got(pages.sessions), methods=["GET"]),
            Route("/session", self._got(pages.session), methods=["GET"]),
            Route("/events", self._got(pages.events), methods=["GET"]),
            Route("/issuers", self._got(pages.issuers), methods=["GET"]),
            Route("/revoke", self._got(pages.choose), methods=["GET"]),
            Route("/revoke/review", self._got(pages.review), methods=["GET"]),
            Route("/revoke", self._posted(pages.revoke), methods=["POST"]),
        ]

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Watch while the app runs."""
        watching = asyncio.create_task(self._feed.run(), name="watch sessions")
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def refused(self, request: Request, error: Exception) -> Response:
        """The page for what there is not."""
        status, detail = 500, ""
        if isinstance(error, HTTPException):
            status, detail = error.status_code, error.detail
        return self._error_page(request, status, "That did not work", detail)

    async def out_of_reach(self, request: Request, error: Exception) -> Response:
        """The page for what authsvc refuses, or cannot be asked."""
        reason = error.reason if isinstance(error, AuthError) else None
        status = _HTTP_STATUSES.get(reason.status.name if reason else "", 502)
        title = reason.name if reason else "That did not work"
        return self._error_page(request, status, title, reason.message if reason else "")

    # Who is there.

    def _login(self, request: Request) -> Login | None:
        touch = REFRESH_HEADER not in request.headers
        return self._logins.get(request.cookies.get(self._cookie, ""), touch=touch)

    def _got(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            login = self._login(request)
            if login is None:
                return RedirectResponse("/sign-in", 303)
            return await handler(Ask(login, dict(request.query_params)))

        return endpoint

    def _posted(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            login = self._login(request)
            if login is None:
                return RedirectResponse("/sign-in", 303)
            form = await posted_form(request)
            token = form.get("csrf_token", "")
            if not hmac.compare_digest(token.encode(), login.csrf_token.encode()):
                raise HTTPException(403, "The form is not one of yours. Load the page again.")
            return await handler(Ask(login, form))

        return endpoint

    # Signing in and out.

    async def _sign_in_form(self, request: Request) -> Response:
        if self._login(request) is not None:
            return RedirectResponse("/", 303)
        return self._sign_in_page()

    async def _sign_in(self, request: Request) -> Response:
        form = await posted_form(request)
        cookie = request.cookies.get(self._sign_in_cookie, "")
        if not self._forms.is_ours(cookie, form.get("csrf_token", "")):
            return self._sign_in_page("The form was too old. Please try again.", 403)
        address = request.client.host if request.client else ""
        wait_seconds = self._tries.take(address)
        if wait_seconds:
            log.warning("sign-in refused: too many tries", extra={"peer": address})
            again = max(1, round(wait_seconds))
            response = self._sign_in_page(f"Too many tries. Wait {again} seconds.", 429)
            response.headers["Retry-After"] = str(again)
            return response
        operator = await self._operators.sign_in(form.get("name", ""), form.get("passphrase", ""))
        if operator is None:
            # The name is not written down: people type passphrases into the wrong field.
            log.warning("sign-in refused", extra={"peer": address})
            return self._sign_in_page("The name or the passphrase is wrong.", 403)
        log.info("signed in", extra={"operator": operator.name, "peer": address})
        self._logins.close(request.cookies.get(self._cookie, ""))
        response = RedirectResponse("/", 303)
        self._set_cookie(response, self._cookie, self._logins.open(operator))
        self._delete_cookie(response, self._sign_in_cookie)
        return response

    async def _signed_out(self, ask: Ask) -> Response:
        self._logins.close_login(ask.login)
        log.info("signed out", extra={"operator": ask.login.operator.name})
        response = RedirectResponse("/sign-in", 303)
        self._delete_cookie(response, self._cookie)
        return response

    def _sign_in_page(self, problem: str = "", status: int = 200) -> Response:
        cookie = self._forms.cookie()
        page = self._templates.get_template("sign_in.html").render(
            login=None, page="", problem=problem, csrf_token=self._forms.token(cookie)
        )
        response = HTMLResponse(page, status)
        self._set_cookie(response, self._sign_in_cookie, cookie)
        return response

    def _set_cookie(self, response: Response, name: str, value: str) -> None:
        response.set_cookie(name, value, httponly=True, samesite="strict", secure=self._secure)

    def _delete_cookie(self, response: Response, name: str) -> None:
        response.delete_cookie(name, httponly=True, samesite="strict", secure=self._secure)

    def _error_page(self, request: Request, status: int, title: str, detail: str) -> Response:
        page = self._templates.get_template("error.html").render(
            login=self._login(request), page="", title=title, detail=detail
        )
        return HTMLResponse(page, status)


_HTTP_STATUSES = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 503,
    "ABORTED": 503,
    "UNAVAILABLE": 503,
}
"""Other refusals are about how the console is known to authsvc: a gateway's problem, 502."""


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    media_type = _MEDIA_TYPES.get(name)
    if media_type is None:
        raise HTTPException(404, "There is no such file.")
    content = files("authsvc.console").joinpath("static", name).read_bytes()
    return Response(content, media_type=media_type)
