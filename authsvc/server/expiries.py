"""When the files expire that authsvc authenticates by elsewhere: certificates and tokens that
something else writes and renews."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import jwt
from cryptography import x509

from authsvc.common.secret_file import SecretFileError, read_secret_file
from authsvc.server.config import Settings
from authsvc.server.config.clients import EndpointSettings
from authsvc.telemetry.metrics import Validity

UNUSABLE = Validity(None, 0.0)
"""Of a file that cannot be used: as if it had expired long ago."""

_Read = Callable[[Path], Validity | None]


def renewed_files(settings: Settings) -> dict[str, Callable[[], Validity | None]]:
    """What reads the validity of each file, by its setting. None where the file names no end.

    Args:
        settings: of authsvc.
    """
    return {setting: partial(read, path) for setting, path, read in _files(settings)}


def _files(settings: Settings) -> Iterator[tuple[str, Path, _Read]]:
    if settings.introspection is not None:
        yield from _of_client(settings.introspection, "introspection")
    for position, exchange in enumerate(settings.credentials.exchange):
        where = f"credentials.exchange[{position}]"
        yield from _of_client(exchange, where)
        if exchange.api_server is not None:
            yield from _of_client(exchange.api_server, f"{where}.api_server")
        if exchange.actor_token_file is not None and exchange.actor_token_type == "jwt":  # noqa: S105
            yield f"{where}.actor_token_file", exchange.actor_token_file, _of_token
    for position, sts in enumerate(settings.credentials.sts):
        if sts.web_identity_token_file is not None:
            setting = f"credentials.sts[{position}].web_identity_token_file"
            yield setting, sts.web_identity_token_file, _of_token


def _of_client(table: EndpointSettings, where: str) -> Iterator[tuple[str, Path, _Read]]:
    if table.is_certified and table.client_certificate_file is not None:
        yield f"{where}.client_certificate_file", table.client_certificate_file, _of_certificate
    if table.private_key_certificate_file is not None:
        setting = f"{where}.private_key_certificate_file"
        yield setting, table.private_key_certificate_file, _of_certificate
    if table.auth_method == "client_assertion_file" and table.client_assertion_file is not None:
        yield f"{where}.client_assertion_file", table.client_assertion_file, _of_token


def _of_certificate(path: Path) -> Validity:
    try:
        pem = read_secret_file(path)
        certificate = x509.load_pem_x509_certificates(pem.encode())[0]
    except (ValueError, x509.InvalidVersion):  # SecretFileError among them
        return UNUSABLE
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return Validity(begins.timestamp(), ends.timestamp())


def _of_token(path: Path) -> Validity | None:
    """Claims ``iat`` and ``exp``, without verification."""
    try:
        token = read_secret_file(path)
        claims = jwt.decode(token, options={"verify_signature": False})
    except (SecretFileError, jwt.InvalidTokenError, RecursionError):
        return UNUSABLE
    ends = _date(claims.get("exp"))
    return None if ends is None else Validity(_date(claims.get("iat")), ends)


def _date(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(min(max(value, 0), 2**53))
