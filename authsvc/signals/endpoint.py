"""Receives signals over HTTP: OpenID Connect Back-Channel Logout 1.0, and pushes (RFC 8935)."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from authsvc.access.client_budgets import ClientBudgets
from authsvc.common.token_bucket import TokenBucket
from authsvc.common.unexpected import log_unexpected
from authsvc.domain.errors import AuthError, GrpcStatus
from authsvc.signals.auditing import REJECTED_BURST, REJECTED_PER_SECOND
from authsvc.signals.errors import SignalError, SignalErrorCode, invalid_request
from authsvc.signals.push_authorization import PushAuthorization
from authsvc.signals.receiving import Receipt, SignalReceiver
from authsvc.signals.senders import SenderBudgets

log = logging.getLogger(__name__)

LOGOUT_PATH = "/signals/logout"
EVENTS_PATH = "/signals/events"

FORM_TYPE = "application/x-www-form-urlencoded"
SET_TYPE = "application/secevent+jwt"

MAX_FORM_MEMBERS = 32
"""Members of a form beside ``logout_token``, which are ignored."""

REFUSALS_PER_SECOND = 0.1
"""Refusals (429) that are reported. One a second would be no news, in a flood."""

_MAX_DIGITS = 18
"""Of a length that is worth reading."""

_NO_STORE = {"Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class EndpointLimits:
    """What senders may use. Rates are per second; a burst is how many may come at once.

    Attributes:
        requests_per_second: well-formed requests, as of ``SenderBudgets``.
        requests_burst: at once.
        rejected_per_second_per_client: rejected requests of one client, as of ``ClientBudgets``.
        rejected_burst_per_client: at once.
        max_body_bytes: longest request.
    """

    requests_per_second: float = 100.0
    requests_burst: float = 200.0
    rejected_per_second_per_client: float = 10.0
    rejected_burst_per_client: float = 50.0
    max_body_bytes: int = 65_536


class _HttpError(Exception):
    """A request that holds no signal.

    Attributes:
        status: of the answer.
        description: what is wrong, for the sender.
    """

    def __init__(self, status: HTTPStatus, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.description = description


class _BusyError(Exception):
    """There are too many requests.

    Attributes:
        wait_seconds: until another one may be accepted.
    """

    def __init__(self, wait_seconds: float) -> None:
        super().__init__()
        self.wait_seconds = wait_seconds


class SignalEndpoint:
    """The receiver's handlers.

    Args:
        receiver: verifies signals and carries them out.
        pushes: checks the Authorization of pushes.
        limits: of senders.
        client_address_header: the header in which a proxy names a sender's address, in lower case;
            empty for the address of the connection.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        receiver: SignalReceiver,
        pushes: PushAuthorization,
        limits: EndpointLimits,
        *,
        client_address_header: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._receiver = receiver
        self._pushes = pushes
        self._limits = limits
        self._header = client_address_header
        self._clock = clock
        self._requests = SenderBudgets(limits.requests_per_second, limits.requests_burst, clock())
        self._reports = TokenBucket(REJECTED_PER_SECOND, REJECTED_BURST, clock())
        self._refusals = TokenBucket(REFUSALS_PER_SECOND, 1.0, clock())
        self._rejected = ClientBudgets(
            limits.rejected_per_second_per_client, limits.rejected_burst_per_client
        )

    def application(self) -> Starlette:
        """The ASGI application."""
        app = Starlette(
            routes=[
                Route(LOGOUT_PATH, self._logout, methods=["POST"]),
                Route(EVENTS_PATH, self._event, methods=["POST"]),
            ]
        )
        app.router.redirect_slashes = False
        return app

    async def _logout(self, request: Request) -> Response:
        async def receive(address: str) -> Response:
            _check_type(request, FORM_TYPE)
            token = _logout_token(await self._body(request))
            self._take(address)
            self._accept(
                address, await self._receiver.receive_logout(token, client_address=address)
            )
            return Response(status_code=HTTPStatus.OK, headers=_NO_STORE)

        return await self._answer(request, receive, _logout_error)

    async def _event(self, request: Request) -> Response:
        async def receive(address: str) -> Response:
            _check_type(request, SET_TYPE)
            text = _text(await self._body(request))
            self._check_authorization(text, request, address)
            self._take(address)
            self._accept(address, await self._receiver.receive_set(text, client_address=address))
            return Response(status_code=HTTPStatus.ACCEPTED, headers=_NO_STORE)

        return await self._answer(request, receive, _event_error)

    def _check_authorization(self, text: str, request: Request, address: str) -> None:
        """
        Raises:
            SignalError: ``authentication_failed``; it is reported.
            AuthError: the expected header is not known.
        """
        try:
            self._pushes.check(text, request.headers.getlist("authorization"))
        except SignalError as error:
            self._reject(self._pushes.issuer(text), error, address)
            raise

    async def _answer(
        self,
        request: Request,
        receive: Callable[[str], Awaitable[Response]],
        failed: Callable[[HTTPStatus, str, str], Response],
    ) -> Response:
        address = self._sender(request)
        if wait := self._rejected.wait(address, self._clock()):
            return self._refuse("rejected_per_second_per_client", address, wait)
        try:
            return await receive(address)
        except _BusyError as error:
            return self._refuse("requests_per_second", address, error.wait_seconds)
        except AuthError as error:
            return _unavailable(error)
        except _HttpError as error:
            self._reject("", invalid_request(error.description), address)
            answer = failed(error.status, SignalErrorCode.INVALID_REQUEST, error.description)
        except SignalError as error:
            answer = failed(HTTPStatus.BAD_REQUEST, error.code, error.description)
        except ClientDisconnect:
            answer = Response(status_code=HTTPStatus.BAD_REQUEST)  # which nobody reads
        except Exception as error:  # noqa: BLE001 - a bug; its message may quote a token
            log_unexpected(log, "a signal failed unexpectedly", error)
            return _try_again(HTTPStatus.INTERNAL_SERVER_ERROR, 1.0)
        self._rejected.take(address, self._clock())
        return answer

    def _reject(self, issuer: str, error: SignalError, address: str) -> None:
        """Report what was rejected here."""
        if self._reports.take(self._clock()) == 0.0:
            self._receiver.reject(issuer, error, client_address=address)

    def _refuse(self, setting: str, address: str, wait_seconds: float) -> Response:
        """There are too many requests. A flood is reported now and then alone."""
        if self._refusals.take(self._clock()) == 0.0:
            self._receiver.refuse(setting, client_address=address)
        return _try_again(HTTPStatus.TOO_MANY_REQUESTS, wait_seconds)

    def _sender(self, request: Request) -> str:
        """IP address of the sender."""
        connected = request.client.host if request.client is not None else ""
        named = request.headers.getlist(self._header) if self._header else []
        if len(named) != 1:
            return connected  # with two of them, one may be the sender's own
        try:
            return str(ip_address(named[0].strip().partition("%")[0]))
        except ValueError:
            return connected

    def _take(self, address: str) -> None:
        """
        Raises:
            _BusyError: there are too many requests.
        """
        if wait := self._requests.take(address, self._clock()):
            raise _BusyError(wait)

    def _accept(self, address: str, receipt: Receipt) -> None:
        if not receipt.is_repeated:
            self._requests.accept(address, self._clock())

    async def _body(self, request: Request) -> bytes:
        """
        Raises:
            _HttpError: 413.
            ClientDisconnect: the sender left.
        """
        longest = self._limits.max_body_bytes
        body = bytearray()
        if _declared_bytes(request) <= longest:
            async for chunk in request.stream():
                body += chunk
                if len(body) > longest:
                    break
            else:
                return bytes(body)
        raise _HttpError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The request is longer than {longest} bytes."
        )


def _declared_bytes(request: Request) -> float:
    """The length that a request declares; 0 where it declares none. The server has parsed it."""
    declared = request.headers.get("content-length", "0")
    return math.inf if len(declared) > _MAX_DIGITS else int(declared)


def _check_type(request: Request, expected: str) -> None:
    """
    Raises:
        _HttpError: 415 unless the body is declared to be of this type, in UTF-8, without a coding.
    """
    given = request.headers.getlist("content-type")
    kind, *parameters = [part.strip().lower() for part in ";".join(given).split(";")]
    charsets = [it.removeprefix("charset=").strip('"') for it in parameters if "charset" in it]
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if len(given) != 1 or kind != expected or {*charsets} - {"utf-8"} or coding != "identity":
        raise _HttpError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"The body has to be {expected}, in UTF-8, without a content coding.",
        )


def _logout_token(body: bytes) -> str:
    """The one ``logout_token`` of a form; what else it has is ignored (section 2.5).

    Raises:
        _HttpError: 400.
    """
    try:
        members = parse_qsl(
            body.decode(),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_FORM_MEMBERS + 1,
        )
    except ValueError:
        raise _HttpError(HTTPStatus.BAD_REQUEST, "The body is not a form.") from None
    tokens = [value for name, value in members if name == "logout_token"]
    if len(tokens) != 1:
        raise _HttpError(
            HTTPStatus.BAD_REQUEST, "The body has to have the parameter logout_token once."
        )
    return tokens[0].strip()


def _text(body: bytes) -> str:
    """
    Raises:
        _HttpError: 400.
    """
    try:
        return body.decode("ascii").strip()
    except UnicodeDecodeError:
        raise _HttpError(HTTPStatus.BAD_REQUEST, "The body is not a JWT.") from None


def _logout_error(status: HTTPStatus, code: str, description: str) -> Response:
    """As OpenID Connect Back-Channel Logout 1.0 section 2.8 has it."""
    content = {"error": code, "error_description": description}
    return JSONResponse(content, status, headers=_NO_STORE)


def _event_error(status: HTTPStatus, code: str, description: str) -> Response:
    """As RFC 8935 section 2.3 has it."""
    content = {"err": code, "description": description}
    return JSONResponse(content, status, headers={**_NO_STORE, "Content-Language": "en"})


def _unavailable(error: AuthError) -> Response:
    """The sender has to repeat the signal: nothing of it is durable."""
    log.warning("a signal could not be processed: %s", error)
    is_busy = error.reason.status is GrpcStatus.RESOURCE_EXHAUSTED
    status = HTTPStatus.TOO_MANY_REQUESTS if is_busy else HTTPStatus.SERVICE_UNAVAILABLE
    return _try_again(status, error.retry_after_seconds or 1.0)


def _try_again(status: HTTPStatus, seconds: float) -> Response:
    headers = {**_NO_STORE, "Retry-After": str(max(1, math.ceil(seconds)))}
    return Response(status_code=status, headers=headers)
