"""Reads authsvc's configuration for commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from authsvc.cli.failing import Failure

if TYPE_CHECKING:
    # Reading settings takes a quarter of a second to import.
    from authsvc.server.config import Settings

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The TOML file. Each setting can also be an AUTHSVC_… variable, with __ between nested "
    "names: AUTHSVC_STORE__PATH.",
)


def load_settings(path: Path | None) -> Settings:
    """The settings in a file, overridden by the environment.

    Raises:
        Failure: one line for each setting that is wrong.
    """
    from authsvc.common.settings import load
    from authsvc.server.config import Settings

    with config_errors():
        return load(Settings, path)


@contextmanager
def config_errors() -> Iterator[None]:
    """Turn a ``ConfigError`` into a ``Failure``."""
    from authsvc.common.settings import ConfigError

    try:
        yield
    except ConfigError as error:
        raise Failure(str(error)) from None
