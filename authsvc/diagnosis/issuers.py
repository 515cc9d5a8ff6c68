"""Issuers: whether their keys can be had, how old they are, and whether clocks agree."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path

from authsvc.diagnosis import Check, Report, directly
from authsvc.net.fetching import Fetcher, FetchError
from authsvc.server.config import IssuerSettings, Settings
from authsvc.server.issuers import issuer_of
from authsvc.tokens.discovery import fetch_discovered, fetch_jwks, metadata_urls
from authsvc.tokens.jwk_set import load_jwks_file
from authsvc.tokens.keys import KeyLoadError, KeySet
from authsvc.tokens.secret_files import load_secret_file

SKEW_WARNING_SECONDS = 5.0

_REMEDY = "Mend what is named, or the issuer's setting."

_NOT_STARTED = "A service that starts now does not start."

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
    """Of each issuer that is configured."""
    return [
        Check("issuer", partial(_look_at, issuer=issuer), _remedy(issuer))
        for issuer in settings.issuers
    ]


def _remedy(issuer: IssuerSettings) -> str:
    if not _is_fetched(issuer):
        # What each file holds is looked at before; of a JWK Set it remains that no key is left.
        return _KEYS_STAY if issuer.jwks_file is None else f"{_NO_KEY} {_NOT_STARTED}"
    return directly(
        f"{_REMEDY} Until then a running service keeps keys that it has fetched for "
        f"keys_max_stale_seconds = {issuer.keys_max_stale_seconds:g}, and without keys its tokens "
        "are answered 503. This machine has to reach it directly: let the firewall, NAT or network "
        "policy pass it, or bring its keys to a jwks_file."
    )


def _is_fetched(issuer: IssuerSettings) -> bool:
    return issuer.secret_file is None and issuer.jwks_file is None


async def _look_at(report: Report, *, issuer: IssuerSettings) -> None:
    files = [issuer.secret_file, issuer.jwks_file, *issuer.previous_secret_files]
    if _is_fetched(issuer):
        await _fetch(report, issuer)
        return
    unfit = list(_unfit(issuer))
    for error, remedy in unfit:
        report.fail(f"{issuer.issuer}: {error}", remedy)
    if unfit:
        return
    keys = issuer_of(issuer).keys.current(time.time())
    count = len(keys.keys) + len(keys.previous)
    where = ", ".join(str(path) for path in files if path is not None)
    report.ok(f"{issuer.issuer}: keys: {count}, in {where}")
    _report_skipped(report, issuer, keys)
    for path in (issuer.secret_file, *issuer.previous_secret_files):
        if path is not None and path.exists():
            _check_mode(report, path)


def _unfit(issuer: IssuerSettings) -> Iterator[tuple[KeyLoadError, str]]:
    """What is wrong with its files, each with its remedy: a running service treats them as
    ``SecretFiles`` and ``FileKeys`` say."""
    try:
        if issuer.secret_file is not None:
            load_secret_file(issuer.secret_file)
        elif issuer.jwks_file is not None:
            load_jwks_file(issuer.jwks_file, issuer.algorithms)
    except KeyLoadError as error:
        yield error, _KEYS_STAY
    for path in issuer.previous_secret_files:
        try:
            load_secret_file(path)
        except KeyLoadError as error:
            yield error, _WITHDRAWN


def _check_mode(report: Report, path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        report.warn(f"{path} can be read by others (mode {mode:o})", f"chmod 600 {path}")


async def _fetch(report: Report, issuer: IssuerSettings) -> None:
    """
    Raises:
        KeyLoadError: the keys cannot be had.
    """
    fetcher = Fetcher(issuer.allow_private_addresses)
    if issuer.jwks_url is not None:
        fetched = await fetch_jwks(fetcher, issuer.jwks_url, issuer.algorithms)
        where = issuer.jwks_url
    else:
        fetched = await fetch_discovered(fetcher, issuer.issuer, issuer.algorithms)
        where = "its metadata, which names it as the issuer"
    try:
        fetched.keys.check_usable()
    except KeyLoadError as error:
        report.fail(f"{issuer.issuer}: {error}", _NO_KEY)
        return
    report.ok(f"{issuer.issuer}: keys: {len(fetched.keys.keys)}, by {where}")
    _report_skipped(report, issuer, fetched.keys)
    await _check_clock(report, issuer, fetcher)


def _report_skipped(report: Report, issuer: IssuerSettings, keys: KeySet) -> None:
    for entry in keys.skipped:
        if entry.is_invalid:
            report.warn(
                f"{issuer.issuer}: skipped a key: {entry}",
                "Tokens by it are rejected. Replace it, or remove it from the set.",
            )


async def _check_clock(report: Report, issuer: IssuerSettings, fetcher: Fetcher) -> None:
    urls = [issuer.jwks_url] if issuer.jwks_url is not None else metadata_urls(issuer.issuer)
    for url in urls:
        try:
            began = time.time()
            _, headers = await fetcher.get(url)
        except FetchError:
            continue
        _compare(report, issuer, headers, (began + time.time()) / 2)
        return


def _compare(
    report: Report, issuer: IssuerSettings, headers: Mapping[str, str], now: float
) -> None:
    """Date is in whole seconds (RFC 9110 section 6.6.1), half of one early on average."""
    try:
        theirs = parsedate_to_datetime(headers["date"]).timestamp() + 0.5
    except (KeyError, ValueError):
        return
    skew, text = theirs - now, f"{issuer.issuer}: its clock is {theirs - now:+.0f} s from ours"
    remedy = "Synchronise clocks (NTP) on both; which one is wrong shows against a third."
    if abs(skew) > issuer.leeway_seconds:
        report.fail(f"{text}, beyond leeway_seconds = {issuer.leeway_seconds:g}", remedy)
    elif abs(skew) > SKEW_WARNING_SECONDS:
        report.warn(text, remedy)
    else:
        report.ok(text)
