"""A forged signal, which a receiver has to reject: whether it can be reached, and verifies."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from authsvc.common.secret_file import SecretFileError, read_secret_file
from authsvc.common.settings import ConfigError
from authsvc.diagnosis.signal_receivers import Receiver
from authsvc.server.config import SignalStreamSettings
from authsvc.signals.endpoint import SET_TYPE
from authsvc.signals.errors import SignalErrorCode
from authsvc.signals.signals import SET_TYPES


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
