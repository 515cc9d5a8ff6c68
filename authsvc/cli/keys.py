"""``authsvc keys``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from authsvc.cli.configuration import config_errors, config_option, load_settings
from authsvc.cli.connection import Connection, admin_options
from authsvc.cli.output import as_json_option, print_json, print_line, print_table
from authsvc.common.times import relative, rfc3339
from authsvc.domain.errors import AuthError
from authsvc.net.urls import shown_url

if TYPE_CHECKING:
    from authsvc.domain.service_status import ServiceStatus
    from authsvc.server.config import IssuerSettings

HEADERS = ("ISSUER", "KEY ID", "ALGORITHM", "STATE", "SOURCE", "LOADED")


@dataclass(frozen=True, slots=True)
class KeyLine:
    """A key, or an issuer without keys. Holds no key material.

    Attributes:
        issuer: claim ``iss``.
        key_id: its ``kid``; empty without one, as for secrets.
        algorithm: the one it is used with; empty where there is no key.
        state: ``ready``, ``previous`` for a secret that was replaced, ``stale`` or ``unavailable``;
            ``skipped:`` and the cause for a JWK Set entry that is not used.
        source: the file or URL that it comes from.
        time: when it was written, read or fetched; None when not known.
        failure: why newer keys could not be loaded; empty if they could.
    """

    issuer: str
    key_id: str
    algorithm: str
    state: str
    source: str
    time: float | None
    failure: str = ""

    def row(self, now: float) -> list[str]:
        """Under ``HEADERS``."""
        read = "-" if self.time is None else relative(self.time, now)
        return [
            self.issuer, self.key_id or "-", self.algorithm or "-", self.state, self.source, read,
        ]  # fmt: skip

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {
            "issuer": self.issuer,
            "key_id": self.key_id,
            "algorithm": self.algorithm,
            "state": self.state,
            "source": self.source,
            "time": None if self.time is None else rfc3339(self.time),
            "failure": self.failure or None,
        }


@click.group("keys")
def command() -> None:
    """Show the keys that verify tokens, without their material."""


@command.command(
    "show",
    epilog="Examples: authsvc keys show --config authsvc.toml --fetch; authsvc keys show "
    "--target authsvc.internal:50051 --ca-file ca.pem --service-token-file operator.token",
)
@config_option
@click.option("--fetch", is_flag=True, help="With --config: also fetch keys from URLs.")
@admin_options
@as_json_option
def show(connection: Connection, config: Path | None, fetch: bool, as_json: bool) -> None:
    """Show issuers and their keys, with the source and the age of each key.

    With --config, shows the keys of that configuration, without network access unless --fetch is
    given. Without it, queries the running service as a caller with admin = true; of several
    replicas or workers, one answers.
    """
    now = time.time()
    if config is not None:
        lines = _configured(config, now, fetch=fetch)
    else:
        lines = _running(connection.run(lambda client: client.status()))
    if as_json:
        print_json({"keys": [line.document() for line in lines]})
    else:
        print_table(HEADERS, [line.row(now) for line in lines])
    failures = ((it.issuer, it.state == "unavailable", it.failure) for it in lines)
    for issuer, has_none, failure in dict.fromkeys(failures):
        if failure:
            which = "Keys" if has_none else "Newer keys"
            print_line(f"{which} of {issuer} could not be loaded: {failure}", err=True)


def _configured(config: Path, now: float, *, fetch: bool) -> list[KeyLine]:
    settings = load_settings(config)

    async def read() -> list[KeyLine]:
        return [line for item in settings.issuers for line in await _of(item, now, fetch=fetch)]

    with config_errors():
        lines = asyncio.run(read())
    asked = settings.introspection
    if asked is not None:
        lines.append(
            KeyLine(asked.issuer, "", "", "introspection", shown_url(asked.endpoint), None)
        )
    return lines


async def _of(settings: IssuerSettings, now: float, *, fetch: bool) -> Sequence[KeyLine]:
    from authsvc.server.issuers import issuer_of

    source = issuer_of(settings).keys
    path = settings.secret_file or settings.jwks_file
    url = shown_url(settings.jwks_url) if settings.jwks_url is not None else ""
    where = str(path or url or f"discovery at {settings.issuer}")
    if path is None and fetch:
        await source.refresh(now)
    try:
        current = source.current(now)
    except AuthError:
        state = "unavailable" if fetch else "not fetched"
        return [KeyLine(settings.issuer, "", "", state, where, None)]
    read_time = now if path is None else path.stat().st_mtime
    keys = [
        KeyLine(settings.issuer, key.kid or "", key.algorithm, "ready", where, read_time)
        for key in current.keys
    ]
    files = zip(current.previous, settings.previous_secret_files, strict=False)
    previous = [
        KeyLine(settings.issuer, "", key.algorithm, "previous", str(file), file.stat().st_mtime)
        for key, file in files
    ]
    skipped = [
        KeyLine(settings.issuer, entry.entry, "", f"skipped: {entry.cause}", where, read_time)
        for entry in current.skipped
    ]
    return [*keys, *previous, *skipped]


def _running(status: ServiceStatus) -> list[KeyLine]:
    lines = []
    for issuer in status.issuers:
        line = KeyLine(
            issuer.issuer,
            "",
            "",
            issuer.state.name.lower(),
            issuer.key_source,
            issuer.fetch_time,
            issuer.failure,
        )
        lines += [line] if not issuer.keys else []
        for key in issuer.keys:
            state = "previous" if key.previous else line.state
            lines.append(replace(line, key_id=key.key_id, algorithm=key.algorithm, state=state))
        lines += [
            replace(line, key_id=it.entry, state=f"skipped: {it.cause}")
            for it in issuer.skipped_keys
        ]
    return lines
