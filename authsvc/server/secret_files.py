"""Files with secrets, as settings name them."""

from __future__ import annotations

from pathlib import Path

from authsvc.common.settings import ConfigError
from authsvc.credentials.secrets import read_secret
from authsvc.domain.errors import AuthError
from authsvc.domain.resolution import Secret


def secret_of(path: Path, setting: str) -> Secret:
    """The secret in a file.

    Args:
        path: the file.
        setting: where the configuration names it.

    Raises:
        ConfigError: the file cannot be used.
    """
    try:
        return read_secret(path)
    except AuthError as error:
        raise ConfigError(f"{setting}: {error.detail}") from None
