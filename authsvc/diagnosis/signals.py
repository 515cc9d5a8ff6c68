"""``[signals]``: whether the receiver listens and rejects what is forged, and the streams' keys."""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

import httpx2

from authsvc.client import AdminClient, ClientTls
from authsvc.client.tls_context import context_of
from authsvc.common.secret_file import SecretFileError, read_secret_file
from authsvc.common.settings import ConfigError
from authsvc.diagnosis import Check, Report, cause, directly
from authsvc.diagnosis.endpoint_remedies import Place, remedy_of_failure
from authsvc.diagnosis.issuers import check_clock
from authsvc.diagnosis.key_remedies import key_remedy
from authsvc.diagnosis.link import UNANSWERED
from authsvc.diagnosis.listening import name_of, own_certificate
from authsvc.diagnosis.reach import reach
from authsvc.net.addresses import from_here, is_local
from authsvc.net.failures import cause_of, failure_of
from authsvc.server.config import Settings, SignalSettings, SignalStreamSettings, TlsSettings
from authsvc.server.egress import fetcher_of, proxy_of, trust_of
from authsvc.server.signals import own_keys
from authsvc.signals.endpoint import EVENTS_PATH, SET_TYPE
from authsvc.signals.errors import SignalErrorCode
from authsvc.signals.signals import SET_TYPES
from authsvc.tokens.keys import KeyLoadError

MAX_ANSWER_BYTES = 65_536

_NOT_LISTENING = (
    "Providers send signals to this address: start authsvc, or correct signals.listen. Until then "
    "users who sign out there keep access here."
)
_NOT_VERIFIED = (
    "Until then a running service verifies its signals with the keys that it has fetched for "
    "keys_max_stale_seconds, and answers 503 without any: senders have to send them again."
)


def checks(settings: Settings) -> list[Check]:
    """The checks of ``[signals]``."""
    table = settings.signals
    if table is None:
        return []
    receiver = partial(_look_at_receiver, settings=settings, table=table)
    found = [Check("signals", receiver, f"{UNANSWERED} {_NOT_LISTENING}")]
    for stream in table.streams:
        if stream.has_own_keys:
            remedy = f"{directly(key_remedy('proxy'))} {_NOT_VERIFIED}"
            found.append(Check("signals", partial(_look_at_keys, stream=stream), remedy))
        if stream.poll_url is not None or stream.verification_url is not None:
            found.append(Check("signals", partial(_look_at_transmitter, stream=stream), ""))
    return found


def running(target: str, tls: ClientTls | None, timeout_seconds: float) -> Check:
    """What the running service says of its streams, for an operator."""

    async def ask(report: Report) -> None:
        async with AdminClient(target, deadline_seconds=timeout_seconds / 2, tls=tls) as client:
            streams = await client.signal_streams()
        for stream in streams:
            if problem := stream.problem(time.time()):
                report.warn(
                    f"{stream.issuer}: {problem}",
                    "Users who sign out there may keep access here. Run `authsvc signals status`.",
                )
            elif stream.last_event is None:
                report.note(f"{stream.issuer}: no signal has been received yet")
            else:
                report.ok(f"{stream.issuer}: signals have been received")

    return Check("signals", ask, "See the findings on authsvc above.")


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where a receiver listens.

    Attributes:
        url: of its pushes.
        context: for its certificate; True for the system's authorities.
        name: that its certificate is for; empty for that of the URL.
    """

    url: str
    context: ssl.SSLContext | bool = True
    name: str = ""

    async def answer(self, method: str, content: str, headers: dict[str, str]) -> tuple[int, bytes]:
        """The status and the body of its answer.

        Raises:
            OSError: there is no answer; the text says why.
        """
        extensions = {"sni_hostname": self.name} if self.name else {}
        try:
            async with (
                httpx2.AsyncClient(verify=self.context, trust_env=False, timeout=None) as http,
                http.stream(
                    method, self.url, content=content, headers=headers, extensions=extensions
                ) as answer,
            ):
                body = bytearray()
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > MAX_ANSWER_BYTES:
                        break
                return answer.status_code, bytes(body)
        except httpx2.HTTPError as error:
            raise OSError(f"{self.url}: {cause_of(error) or type(error).__name__}") from None


def receiver_of(settings: Settings, table: SignalSettings) -> Receiver:
    """The receiver of a configuration, as this machine reaches it.

    Raises:
        ConfigError: the certificate of ``[tls]`` cannot be read.
        OSError: it is no PEM.
    """
    tls = None if is_local(table.listen) else settings.tls
    url = f"{'http' if tls is None else 'https'}://{from_here(table.listen)}{EVENTS_PATH}"
    return Receiver(url) if tls is None else Receiver(url, *_pinned(tls))


def _pinned(tls: TlsSettings) -> tuple[ssl.SSLContext, str]:
    # The certificate itself is expected, from any authority.
    context = context_of(ClientTls(tls.certificate_file).authorities(), None)
    return context, name_of(own_certificate(tls))


async def _look_at_receiver(report: Report, *, settings: Settings, table: SignalSettings) -> None:
    receiver = receiver_of(settings, table)
    try:
        status, _ = await receiver.answer("GET", "", {})
    except OSError as error:
        report.fail(str(error), _NOT_LISTENING)
        return
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        report.ok(f"{receiver.url} receives signals of {len(table.streams)} providers")
    else:
        report.fail(
            f"{receiver.url} answers {status} to a GET, not 405",
            "Another server listens there: correct signals.listen, or end it.",
        )


async def _look_at_keys(report: Report, *, stream: SignalStreamSettings) -> None:
    source = own_keys(stream)
    if source is None:
        return
    now = time.time()
    await source.refresh(now)
    if source.failure:
        report.fail(f"{stream.issuer}: {source.failure}", f"{key_remedy('')} {_NOT_VERIFIED}")
        return
    keys = source.current(now)
    try:
        keys.check_usable()
    except KeyLoadError as error:
        report.fail(f"{stream.issuer}: {error}", f"{key_remedy('')} Its signals are rejected.")
        return
    where = f"{stream.table}.{stream.key_setting}"
    report.ok(f"{stream.issuer}: keys of signals: {len(keys.keys)}, by {where}")
    if stream.jwks_file is None:
        await check_clock(report, stream, fetcher_of(stream, stream.table))


async def _look_at_transmitter(report: Report, *, stream: SignalStreamSettings) -> None:
    for name in ("poll_url", "verification_url"):
        url: str | None = getattr(stream, name)
        if url is None:
            continue
        try:
            await reach(url, trust_of(stream, stream.table), proxy_of(stream))
        except OSError as error:
            place = Place(stream.table, name, stream.proxy is not None)
            remedy = remedy_of_failure(failure_of(error), place)
            report.fail(f"{name} {url}: {cause_of(error) or cause(error)}", remedy)
        else:
            report.ok(f"{stream.issuer}: {name} is reachable")


# A forged signal.


@dataclass(frozen=True, slots=True)
class ForgeryAnswer:
    """What a receiver has answered to a forged token.

    Attributes:
        is_rejected: whether it was rejected for its signature, as it has to be.
        text: the answer, for people; and where it is another one, what to do about it.
    """

    is_rejected: bool
    text: str


async def send_forged(
    receiver: Receiver, stream: SignalStreamSettings, algorithm: str
) -> ForgeryAnswer:
    """Send a security event token with a random signature. Besides being rejected, audited and
    counted, it has no effect.

    Args:
        receiver: where to.
        stream: whose it claims to be.
        algorithm: one that its keys are for.

    Raises:
        ConfigError: ``push_authorization_file`` cannot be read.
        OSError: there is no answer.
    """
    headers = {"Content-Type": SET_TYPE, **_authorization(stream)}
    status, body = await receiver.answer("POST", _forged(stream, algorithm), headers)
    if 200 <= status < 300:
        return ForgeryAnswer(
            False,
            f"{receiver.url} has answered {status} to a forged token: whatever listens "
            "there does not verify signatures. It is not authsvc; end it.",
        )
    if status != HTTPStatus.BAD_REQUEST:
        remedy = _BY_STATUS.get(status, "Another server listens there.")
        return ForgeryAnswer(False, f"{receiver.url} answers {status}. {remedy}")
    code = _code_of(body)
    if code == SignalErrorCode.INVALID_KEY:
        return ForgeryAnswer(True, f"{receiver.url} rejects a forged token: {code}.")
    remedy = _BY_CODE.get(code, "Its log (SIGNAL_REJECTED) has the cause.")
    return ForgeryAnswer(False, f"{receiver.url} rejects a forged token as {code!r}. {remedy}")


_BY_STATUS: Mapping[int, str] = {
    HTTPStatus.TOO_MANY_REQUESTS: "It has had too many requests, of this address or of all: try "
    "again in a minute.",
    HTTPStatus.SERVICE_UNAVAILABLE: "It has no keys of the stream, or its store is unavailable: "
    "run `authsvc doctor --config`.",
}
_BY_CODE: Mapping[str, str] = {
    SignalErrorCode.INVALID_ISSUER: "It has no such stream: it runs with another configuration. "
    "Restart it with this one.",
    SignalErrorCode.AUTHENTICATION_FAILED: "push_authorization_file is not that of the running "
    "service.",
}


def _authorization(stream: SignalStreamSettings) -> dict[str, str]:
    if stream.push_authorization_file is None:
        return {}
    try:
        return {"Authorization": read_secret_file(stream.push_authorization_file)}
    except SecretFileError as error:
        raise ConfigError(f"{stream.table}.push_authorization_file: {error}") from None


def _forged(stream: SignalStreamSettings, algorithm: str) -> str:
    kind = (stream.accepted_types or SET_TYPES)[0]
    header = {"alg": algorithm}
    if kind.lower() not in {"", "none"}:
        header["typ"] = kind
    claims = {
        "iss": stream.issuer,
        "aud": stream.audiences[0],
        "iat": int(time.time()),
        "jti": secrets.token_urlsafe(16),
        "events": {"https://schemas.openid.net/secevent/ssf/event-type/verification": {}},
    }
    parts = [json.dumps(part).encode() for part in (header, claims)]
    encoded = (base64.urlsafe_b64encode(part) for part in (*parts, secrets.token_bytes(64)))
    return ".".join(part.rstrip(b"=").decode() for part in encoded)


def _code_of(content: bytes) -> str:
    """The error code of RFC 8935; empty where the answer is none."""
    try:
        document = json.loads(content)
    except ValueError:
        return ""
    code = document.get("err") if isinstance(document, dict) else None
    return code if isinstance(code, str) else ""
