"""Issuers: whether their keys can be loaded."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from authsvc.diagnosis import Check, Report, directly
from authsvc.diagnosis.key_remedies import key_remedy
from authsvc.net.failures import Stage
from authsvc.net.fetching import Fetcher
from authsvc.net.urls import shown_url
from authsvc.server.config import IssuerSettings, Settings
from authsvc.server.egress import fetcher_of
from authsvc.server.issuers import issuer_of
from authsvc.tokens.discovery import Metadata, discover, fetch_jwks, fetch_named_jwks
from authsvc.tokens.jwk import is_labelled
from authsvc.tokens.jwk_set import load_jwks_file
from authsvc.tokens.keys import KeyLoadError, KeySet
from authsvc.tokens.secret_files import load_secret_file

_REMEDY = "Correct the cause, or the issuer's setting."

_NOT_STARTED = "A service that is started now fails to start."

_KEYS_STAY = (
    f"{_REMEDY} Until then a running service keeps the keys that it has read and accepts their "
    f"tokens: that is urgent if one of them has leaked. {_NOT_STARTED}"
)
_NO_KEY = f"{_REMEDY} Until then a running service rejects each of its tokens as TOKEN_KEY_UNKNOWN."
_WITHDRAWN = (
    f"{_REMEDY} Until then a running service rejects tokens that are signed with that previous "
    f"secret. {_NOT_STARTED}"
)


def checks(settings: Settings) -> list[Check]:
    """The checks of each configured issuer."""
    return [
        Check("issuer", partial(_look_at, issuer=issuer), _remedy(issuer), issuer.issuer)
        for issuer in settings.issuers
    ]


def _remedy(issuer: IssuerSettings) -> str:
    if not _is_fetched(issuer):
        # The files were checked one by one; what remains is a JWK Set without a usable key.
        return _KEYS_STAY if issuer.jwks_file is None else f"{_NO_KEY} {_NOT_STARTED}"
    # It takes too long.
    return _unfetched(issuer, directly(key_remedy("proxy")))


def _unfetched(issuer: IssuerSettings, remedy: str) -> str:
    return (
        f"{remedy} Until then a running service keeps fetched keys for "
        f"keys_max_stale_seconds = {issuer.keys_max_stale_seconds:g}, and without keys its tokens "
        "are answered 503."
    )


def _is_fetched(issuer: IssuerSettings) -> bool:
    return issuer.secret_file is None and issuer.jwks_file is None


async def _look_at(report: Report, *, issuer: IssuerSettings) -> None:
    files = [issuer.secret_file, issuer.jwks_file, *issuer.previous_secret_files]
    if _is_fetched(issuer):
        try:
            await _fetch(report, issuer)
        except KeyLoadError as error:
            report.fail(str(error), _unfetched(issuer, _remedy_of(error, issuer)))
        return
    faults = list(_file_faults(issuer))
    for fault, remedy in faults:
        report.fail(f"{issuer.issuer}: {fault}", remedy)
    if faults:
        return
    keys = issuer_of(issuer).keys.current(time.time())
    count = len(keys.keys) + len(keys.previous)
    where = ", ".join(str(path) for path in files if path is not None)
    report.ok(f"{issuer.issuer}: keys: {count}, in {where}")
    _report_skipped(report, issuer, keys)
    for path in (issuer.secret_file, *issuer.previous_secret_files):
        if path is not None and path.exists():
            _check_mode(report, path)


def _remedy_of(error: KeyLoadError, issuer: IssuerSettings) -> str:
    if error.stage is Stage.CONNECTION:
        return directly(key_remedy("proxy"))
    if error.stage is Stage.TLS and not error.setting:
        return "Correct the certificate at the issuer's server, or what else the text names."
    if issuer.jwks_url is not None:
        return key_remedy(error.setting or "jwks_url")
    return key_remedy("jwks_uri" if error.setting == "jwks_url" else error.setting)


def _file_faults(issuer: IssuerSettings) -> Iterator[tuple[KeyLoadError, str]]:
    """The faults of its files, each with the remedy. ``SecretFiles`` and ``FileKeys`` say how a
    running service treats such files."""
    try:
        if issuer.secret_file is not None:
            load_secret_file(issuer.secret_file, issuer.algorithms[0])
        elif issuer.jwks_file is not None:
            load_jwks_file(issuer.jwks_file, issuer.algorithms, issuer=issuer.issuer)
    except KeyLoadError as error:
        yield error, _KEYS_STAY
    for path in issuer.previous_secret_files:
        try:
            load_secret_file(path, issuer.algorithms[0])
        except KeyLoadError as error:
            yield error, _WITHDRAWN


def _check_mode(report: Report, path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        report.warn(f"{path} can be read by others (mode {mode:o})", f"chmod 600 {path}")


async def _fetch(report: Report, issuer: IssuerSettings) -> None:
    """
    Raises:
        KeyLoadError: the keys cannot be loaded.
    """
    fetcher = fetcher_of(issuer, f"issuers[{issuer.issuer}]")
    algorithms, name = issuer.algorithms, issuer.issuer
    if issuer.jwks_url is not None:
        where = shown_url(issuer.jwks_url)
        fetched = await fetch_jwks(fetcher, issuer.jwks_url, algorithms, issuer=name)
    else:
        found = await _discovered(fetcher, issuer)
        where = _in_words(found)
        fetched = await fetch_named_jwks(found, algorithms, name)
    try:
        fetched.keys.check_usable()
    except KeyLoadError as error:
        report.fail(f"{issuer.issuer}: {error}", _NO_KEY)
        return
    report.ok(f"{issuer.issuer}: keys: {len(fetched.keys.keys)}, from {where}")
    _report_skipped(report, issuer, fetched.keys)


async def _discovered(fetcher: Fetcher, issuer: IssuerSettings) -> Metadata:
    """
    Raises:
        KeyLoadError: there is no metadata; the message says what each place answered.
    """
    try:
        return await discover(fetcher, issuer.issuer, metadata_url=issuer.metadata_url)
    except KeyLoadError as error:
        raise KeyLoadError(
            f"{issuer.issuer}: no place has its metadata: {error}",
            setting=error.setting,
            stage=error.stage,
        ) from None


def _in_words(found: Metadata) -> str:
    where = f"{shown_url(found.jwks_uri)}, which its metadata at {shown_url(found.url)} names"
    if not found.passed_over:
        return where
    return f"{where} (passed over: {'; '.join(found.passed_over)})"


def _report_skipped(report: Report, issuer: IssuerSettings, keys: KeySet) -> None:
    for entry in keys.skipped:
        if not entry.is_invalid:
            continue
        if any(key.kid and is_labelled(entry.entry, key.kid) for key in keys.keys):
            remedy = "Another key of the same kid is used. Remove this entry from the set."
        else:
            remedy = "Tokens signed with it are rejected. Replace it, or remove it from the set."
        report.warn(f"{issuer.issuer}: skipped a key: {entry}", remedy)
