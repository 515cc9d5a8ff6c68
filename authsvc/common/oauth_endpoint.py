"""Requests of authsvc, as a client, to an endpoint of an authorization server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from authsvc.common.client_authentication import ClientAuthentication
from authsvc.common.oauth_errors import CLIENT_REJECTED, described, error_code
from authsvc.common.secret_file import SecretFileError
from authsvc.net.client_identity import CERTIFICATE_SETTING, ClientIdentity
from authsvc.net.failures import Failure
from authsvc.net.fetching import Fetcher, FetchError, check_url
from authsvc.net.urls import shown_url

MAX_RETRY_AFTER_SECONDS = 30.0
"""The longest Retry-After that is followed: the endpoint may name any."""

_ELSEWHERE = frozenset({301, 302, 303, 307, 308, 404, 405, 410})
"""Statuses of a URL that is not the endpoint's."""

_OF_A_CERTIFICATE = frozenset({400, 401, 403, 495, 496})
"""Statuses by which a server or a proxy in front of it rejects a client's certificate after the
handshake. nginx answers 400 with a page where ``ssl_verify_client`` is on; 495 and 496 are its own
statuses for a certificate that it rejects and for none (nginx, "Module ngx_http_ssl_module")."""

_MAY_REJECT = "the server, or a proxy in front of it, may reject authsvc's certificate"

Details = Callable[[bytes, Sequence[str]], str]
"""Reads more in the body of an error, for operators. Its second argument is what the request held:
the body may repeat it, and the result must not."""


class EndpointError(Exception):
    """There is no response with status 200. The message is for operators, without secrets.

    Attributes:
        status: the HTTP status; None where there is no answer.
        code: the ``error`` of the answer (RFC 6749 section 5.2); empty where it has none.
        retry_after_seconds: what the answer asks to wait, ``MAX_RETRY_AFTER_SECONDS`` at most; None
            where it does not.
        setting: the setting that would mend it; empty where none is known.
        failure: what kept the request from its answer. OUR_CERTIFICATE with a status: the answer
            has no ``error``, and the server may reject the certificate that authsvc presents.
        details: what ``Details`` has read in the answer; the message has it, too.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        code: str = "",
        retry_after_seconds: float | None = None,
        setting: str = "",
        failure: Failure = Failure.ANSWER,
        details: str = "",
    ) -> None:
        super().__init__(f"{detail}; {details}" if details else detail)
        self.details = details
        self.failure = failure
        self.status = status
        self.code = code
        self.retry_after_seconds = retry_after_seconds
        self.setting = setting


class OAuthEndpoint:
    """One endpoint, and how authsvc authenticates there.

    Args:
        url: where it is.
        authentication: authenticates each request.
        fetcher: sends the requests.

    Raises:
        FetchError: the URL is neither https nor http on loopback.
    """

    def __init__(self, url: str, authentication: ClientAuthentication, fetcher: Fetcher) -> None:
        check_url(url)
        self._url = url
        self.shown = shown_url(url)
        """Its URL for messages."""
        self._authentication = authentication
        self._fetcher = fetcher

    @property
    def identity(self) -> ClientIdentity | None:
        """The certificate that authsvc presents there, and its key; None for none."""
        return self._fetcher.identity

    @property
    def client_advice(self) -> str:
        """What to do where the endpoint rejects authsvc itself, for a message."""
        table, setting = self._table, self._authentication.setting
        others = "" if setting == f"{table}.auth_method" else f", {setting}"
        names = f"{table}.client_id, {table}.auth_method{others}"
        first, _, last = names.rpartition(", ")
        return f"compare {first} and {last} with the client's registration"

    @property
    def _table(self) -> str:
        """The table of the configuration that its settings are in."""
        return self._authentication.setting.rpartition(".")[0]

    async def post(
        self, form: Mapping[str, str], now: float, details: Details | None = None
    ) -> bytes:
        """The body of the response to a form.

        Args:
            form: the parameters, without those of client authentication.
            now: seconds since the epoch.
            details: reads more in the body of an error; None for nothing.

        Raises:
            EndpointError: there is no response with status 200.
        """
        try:
            client = self._authentication.parameters(self._url, now)
        except SecretFileError as error:
            setting = error.setting or self._authentication.setting
            raise EndpointError(f"{setting}: {error}", setting=setting) from None
        try:
            body, _ = await self._fetcher.post(self._url, {**form, **client.form}, client.headers)
        except FetchError as error:
            headers = (part for value in client.headers.values() for part in value.split())
            sent = (*form.values(), client.secret, *headers)
            raise self._failure(error, sent, now, details) from None
        return body

    def _failure(
        self, error: FetchError, sent: tuple[str, ...], now: float, details: Details | None
    ) -> EndpointError:
        if error.status is None:
            setting = f"{self._table}.{error.setting}" if error.setting else ""
            return EndpointError(str(error), setting=setting, failure=error.failure)
        code = error_code(error.body, sent)
        detail = f"{self.shown}: answered {described(error.status, code)}"
        setting, failure = "", Failure.ANSWER
        if self.identity is not None and not code and error.status in _OF_A_CERTIFICATE:
            # What is without an ``error`` is not about the token: no token endpoint wrote it.
            failure = Failure.OUR_CERTIFICATE
            setting = f"{self._table}.{CERTIFICATE_SETTING}"
            detail += f" without an error code: {_MAY_REJECT}; {self.client_advice}"
        elif code == CLIENT_REJECTED or (error.status == 401 and not code):
            setting = self._authentication.setting
            detail += f": authsvc's client authentication was rejected; {self.client_advice}"
        elif not code:
            detail = str(error)
            setting = f"{self._table}.endpoint" if error.status in _ELSEWHERE else ""
        return EndpointError(
            detail,
            status=error.status,
            code=code,
            retry_after_seconds=retry_after(error.retry_after, now),
            setting=setting,
            failure=failure,
            details="" if details is None else details(error.body, sent),
        )


def retry_after(value: str, now: float) -> float | None:
    """The seconds that a header Retry-After (RFC 9110 section 10.2.3) asks to wait.

    Args:
        value: seconds or a date.
        now: seconds since the epoch.

    Returns:
        From 1 to ``MAX_RETRY_AFTER_SECONDS``; None where the header is neither.
    """
    if value.isascii() and value.isdigit():
        seconds = float(value[:9])
    else:
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - _EPOCH).total_seconds() - now
    return min(max(seconds, 1.0), MAX_RETRY_AFTER_SECONDS)


_EPOCH = datetime.fromtimestamp(0, UTC)
