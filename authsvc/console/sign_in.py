"""Signing in and out: the form, the cookies, and the limits on attempts."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from authsvc.console.attempts import SignInAttempts
from authsvc.console.config import ConsoleSettings
from authsvc.console.forms import posted_form
from authsvc.console.logins import Login, Logins, PageRequest
from authsvc.console.operators import OperatorsFile

log = logging.getLogger(__name__)

REFRESH_HEADER = "X-Console-Refresh"
"""In requests of a page that refreshes itself: they do not keep the operator signed in."""


class SignInForms:
    """Protects the sign-in form against CSRF, before there is a login. Nothing is stored.

    The cookie is random, and the form has an HMAC of it. A page of another site cannot make the
    HMAC, and the HMAC of another visitor does not match the cookie.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def cookie(self) -> str:
        """A new value for the cookie."""
        return secrets.token_urlsafe(32)

    def token(self, cookie: str) -> str:
        """The value for the form."""
        return hmac.new(self._key, cookie.encode(), hashlib.sha256).hexdigest()

    def is_valid(self, cookie: str, token: str) -> bool:
        """Whether the form was made here, for the visitor with this cookie."""
        return bool(cookie) and hmac.compare_digest(self.token(cookie).encode(), token.encode())


class SignIn:
    """The pages to sign in and out, and the login of each request.

    Args:
        settings: of the console.
        operators: who may sign in.
        templates: of the pages.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        settings: ConsoleSettings,
        operators: OperatorsFile,
        templates: Environment,
        clock: Callable[[], float],
    ) -> None:
        self._operators = operators
        self._templates = templates
        self._secure = settings.is_secure
        # Browsers accept a cookie with this prefix only over TLS, and from this host alone.
        prefix = "__Host-" if self._secure else ""
        self._cookie = f"{prefix}authsvc-console"
        self._form_cookie = f"{prefix}authsvc-console-sign-in"
        self._logins = Logins(
            operators.get,
            idle_seconds=settings.session_idle_seconds,
            seconds=settings.session_seconds,
            clock=clock,
        )
        self._attempts = SignInAttempts(clock)
        self._forms = SignInForms()

    def login(self, request: Request) -> Login | None:
        """The login of a request; None where there is none."""
        touch = REFRESH_HEADER not in request.headers
        return self._logins.get(request.cookies.get(self._cookie, ""), touch=touch)

    async def form(self, request: Request) -> Response:
        """GET: the form."""
        if self.login(request) is not None:
            return RedirectResponse("/", 303)
        return self._page()

    async def submit(self, request: Request) -> Response:
        """POST: sign in."""
        form = await posted_form(request)
        form_cookie = request.cookies.get(self._form_cookie, "")
        if not self._forms.is_valid(form_cookie, form.get("csrf_token", "")):
            return self._page("The form was too old. Please try again.", 403)
        address = request.client.host if request.client else ""
        wait_seconds = self._attempts.take(address)
        if wait_seconds:
            log.warning("sign-in denied: too many attempts", extra={"peer": address})
            return self._too_many_attempts(max(1, round(wait_seconds)))
        operator = await self._operators.sign_in(form.get("name", ""), form.get("passphrase", ""))
        if operator is None:
            # The name is not logged: people type passphrases into the wrong field.
            log.warning("sign-in denied", extra={"peer": address})
            return self._page("The name or the passphrase is wrong.", 403)
        log.info("signed in", extra={"operator": operator.name, "peer": address})
        self._logins.close(request.cookies.get(self._cookie, ""))
        response = RedirectResponse("/", 303)
        self._set_cookie(response, self._cookie, self._logins.open(operator))
        self._delete_cookie(response, self._form_cookie)
        return response

    async def sign_out(self, request: PageRequest) -> Response:
        """POST: sign out."""
        self._logins.close_login(request.login)
        log.info("signed out", extra={"operator": request.login.operator.name})
        response = RedirectResponse("/sign-in", 303)
        self._delete_cookie(response, self._cookie)
        return response

    def _too_many_attempts(self, wait_seconds: int) -> Response:
        response = self._page(f"Too many attempts. Wait {wait_seconds} seconds.", 429)
        response.headers["Retry-After"] = str(wait_seconds)
        return response

    def _page(self, problem: str = "", status: int = 200) -> Response:
        cookie = self._forms.cookie()
        page = self._templates.get_template("sign_in.html").render(
            login=None, page="", problem=problem, csrf_token=self._forms.token(cookie)
        )
        response = HTMLResponse(page, status)
        self._set_cookie(response, self._form_cookie, cookie)
        return response

    def _set_cookie(self, response: Response, name: str, value: str) -> None:
        response.set_cookie(name, value, httponly=True, samesite="strict", secure=self._secure)

    def _delete_cookie(self, response: Response, name: str) -> None:
        response.delete_cookie(name, httponly=True, samesite="strict", secure=self._secure)
