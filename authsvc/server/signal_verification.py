"""Asks a transmitter for a verification event (SSF 1.0 section 8.1.4.2): for operators."""

from __future__ import annotations

import json

from authsvc.common.secret_file import SecretFileError, read_secret_file
from authsvc.common.settings import ConfigError
from authsvc.net.fetching import FetchError
from authsvc.server.config import SignalStreamSettings
from authsvc.server.egress import fetcher_of


class VerificationError(Exception):
    """A transmitter has not accepted the request; the message has no secret, and says which setting
    to look at."""


async def request_verification(stream: SignalStreamSettings, state: str) -> None:
    """Ask for a verification event. Once this returns, the transmitter has accepted to send one.

    Args:
        stream: has ``verification_url``.
        state: for the event to have.

    Raises:
        ConfigError: a file cannot be used.
        VerificationError: the transmitter is unreachable, or denies the request.
    """
    url, file = stream.verification_url, stream.management_authorization_file
    if url is None or file is None:
        raise ConfigError(f"{stream.table}.verification_url: is not set")
    try:
        authorization = read_secret_file(file)
    except SecretFileError as error:
        raise ConfigError(f"{stream.table}.management_authorization_file: {error}") from None
    document = {"stream_id": stream.stream_id, "state": state}
    if not stream.stream_id:
        del document["stream_id"]
    try:
        await fetcher_of(stream, stream.table).post_json(
            url, json.dumps(document).encode(), {"Authorization": authorization}
        )
    except FetchError as error:
        raise VerificationError(f"{error}\n{_remedy(error, stream)}") from None


_REMEDIES = {
    400: "Compare stream_id with the id that the transmitter has given to the stream.",
    401: "management_authorization_file is not what the transmitter expects, or has expired.",
    403: "Permit the client of management_authorization_file to verify the stream.",
    404: "Correct verification_url or stream_id: the transmitter's metadata has "
    "verification_endpoint.",
    429: "The transmitter limits verifications: wait (its min_verification_interval).",
}


def _remedy(error: FetchError, stream: SignalStreamSettings) -> str:
    if error.status is not None:
        text = _REMEDIES.get(error.status, "The transmitter's own log says why.")
    elif error.setting:
        text = f"Set or correct {error.setting}."
    else:
        text = "Correct verification_url, or let this machine reach it."
    return f"{stream.table}: {text}"
