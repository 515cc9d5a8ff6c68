"""When certificates and tokens expire that something else writes and renews: those that authsvc
authenticates by elsewhere, and all certificates in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import jwt

from authsvc.common.secret_file import SecretFileError, read_secret_file
from authsvc.net.certificate_files import validity_of
from authsvc.net.validity import UNUSABLE, Validity
from authsvc.server.config import Settings
from authsvc.server.config.clients import EndpointSettings
from authsvc.server.config.egress import Egress

_Read = Callable[[Path], Validity | None]


def renewed_files(settings: Settings) -> dict[str, Callable[[], Validity | None]]:
    """What reads the validity of each file, by its setting. None where the file names no end.

    Args:
        settings: of authsvc.
    """
    return {setting: partial(read, path) for setting, path, read in _files(settings)}


def certificate_files(settings: Settings) -> dict[str, Path | None]:
    """The files of certificates in use, by setting: what authsvc presents to its callers and to its
    store, and the authorities that it trusts.

    Args:
        settings: of authsvc.
    """
    tls, store, signals = settings.tls, settings.store, settings.signals
    found: dict[str, Path | None] = {}
    if tls is not None:
        found["tls.certificate_file"] = tls.certificate_file
        found["tls.client_ca_file"] = tls.client_ca_file
    if store.kind == "redis":
        found["store.ca_file"] = store.ca_file
        found["store.certificate_file"] = store.certificate_file
    endpoints: dict[str, Egress] = {
        **{f"issuers[{number}]": it for number, it in enumerate(settings.issuers)},
        **{f"credentials.exchange[{n}]": it for n, it in enumerate(settings.credentials.exchange)},
        **{f"credentials.sts[{number}]": it for number, it in enumerate(settings.credentials.sts)},
        **{it.table: it for it in (signals.streams if signals is not None else ())},
    }
    endpoints |= {
        f"credentials.exchange[{number}].api_server": it.api_server
        for number, it in enumerate(settings.credentials.exchange)
        if it.api_server is not None
    }
    if settings.introspection is not None:
        endpoints["introspection"] = settings.introspection
    return found | {f"{where}.ca_file": table.ca_file for where, table in endpoints.items()}


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
        yield f"{where}.client_certificate_file", table.client_certificate_file, validity_of
    if table.private_key_certificate_file is not None:
        setting = f"{where}.private_key_certificate_file"
        yield setting, table.private_key_certificate_file, validity_of
    if table.auth_method == "client_assertion_file" and table.client_assertion_file is not None:
        yield f"{where}.client_assertion_file", table.client_assertion_file, _of_token


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
