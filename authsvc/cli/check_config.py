"""``authsvc check-config``."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from authsvc.cli.configuration import config_option
from authsvc.cli.output import as_json_option, print_json, print_line

if TYPE_CHECKING:
    from authsvc.server.config import Settings


@click.command(epilog="Example: authsvc check-config --config authsvc.toml && systemctl reload …")
@config_option
@as_json_option
def command(config: Path | None, as_json: bool) -> None:
    """Check a configuration and the files that it names, without serving or network access.

    Exit code 0 if `serve` would accept it, 2 if not. All problems are reported at once; of a valid
    configuration, certificates that have expired or have to be renewed are warnings.
    """
    found = problems(config)
    warned = [] if found else warnings(config)
    if as_json:
        print_json({"valid": not found, "problems": found, "warnings": warned})
    else:
        for line in (*found, *(f"warning: {it}" for it in warned)):
            print_line(line, err=True)
        if not found:
            print_line(f"{config or 'The environment'}: valid.")
    sys.exit(2 if found else 0)


def problems(config: Path | None) -> list[str]:
    """What keeps `serve` from starting; empty if nothing does."""
    from authsvc.common.config_faults import ConfigFaults
    from authsvc.common.settings import ConfigError, load
    from authsvc.server.config import Settings

    try:
        settings = load(Settings, config)
    except ConfigError as error:
        return str(error).splitlines()
    faults = ConfigFaults()
    for check in _parts(settings):
        try:
            with faults.gathered():
                check()
        except Exception as error:  # noqa: BLE001 - one odd part hides none of the others
            faults.add(f"a check failed unexpectedly, as `serve` may: {type(error).__name__}")
    return faults.lines


def warnings(config: Path | None) -> list[str]:
    """What `serve` starts with, and clients may not connect with: of a valid configuration."""
    from authsvc.common.settings import load
    from authsvc.net.certificate_files import warnings_of
    from authsvc.server.config import Settings
    from authsvc.server.expiries import certificate_files

    return warnings_of(certificate_files(load(Settings, config)))


def _parts(settings: Settings) -> list[Callable[[], object]]:
    """What `serve` makes of the settings, part by part. Each raises ``ConfigError``."""
    from authsvc.server.assertions import checked_seal
    from authsvc.server.brokers import open_broker
    from authsvc.server.callers import callers_of
    from authsvc.server.issuers import issuer_of, with_introspection
    from authsvc.server.listener import server_credentials
    from authsvc.tokens.jwt import JwtVerifier

    async def broker() -> None:
        async with open_broker(settings):
            pass

    return [
        *(partial(issuer_of, item) for item in settings.issuers),
        partial(with_introspection, JwtVerifier([]), settings),
        partial(server_credentials, settings.tls),
        partial(callers_of, settings),
        lambda: asyncio.run(broker()),
        partial(_check_store, settings),
        partial(settings.audit.check_file, settings.audit_file, "audit_file"),
        *(partial(checked_seal, it) for it in [settings.assertions] if it is not None),
        partial(_check_ext_authz, settings),
        *_parts_of_signals(settings),
    ]


def _parts_of_signals(settings: Settings) -> list[Callable[[], object]]:
    if settings.signals is None:
        return []
    from authsvc.server.https import served_context_of
    from authsvc.server.secret_files import secret_of
    from authsvc.server.signal_receiver import push_authorization_of, transmitter_of
    from authsvc.server.signals import own_keys

    streams = settings.signals.streams
    return [
        *(partial(own_keys, stream) for stream in streams),
        *(partial(transmitter_of, stream) for stream in streams),
        *(
            partial(secret_of, file, f"{stream.table}.management_authorization_file")
            for stream in streams
            if (file := stream.management_authorization_file) is not None
        ),
        partial(push_authorization_of, settings.signals),
        partial(served_context_of, settings.signals.listen, settings.tls),
    ]


def _check_store(settings: Settings) -> None:
    """The files that the store needs; the store itself is for ``authsvc doctor``."""
    from authsvc.common.config_faults import ConfigFaults
    from authsvc.common.file_faults import is_missing, relative_to

    faults = ConfigFaults()
    for name in ("password_file", "ca_file", "certificate_file", "key_file"):
        path = getattr(settings.store, name)
        if path is not None and not os.access(path, os.R_OK):
            where = relative_to(path) if is_missing(path) else ""
            faults.add(f"store.{name}: {path}: cannot be read{where}")
    faults.check()


def _check_ext_authz(settings: Settings) -> None:
    if settings.ext_authz is not None:
        import authsvc.server.ext_authz  # noqa: F401 - it needs the extra "envoy"
