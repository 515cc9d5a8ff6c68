"""Secrets that authsvc itself needs for credentials, read at each use: a rotation takes effect with
the next call."""

from __future__ import annotations

from pathlib import Path

from authsvc.common.secret_file import SecretFileError, held_secret, read_secret_file
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Secret


def read_held_secret(path: Path, setting: str = "") -> Secret:
    """As ``read_secret``, for a secret in use: the last one while its file is empty."""
    try:
        return Secret(held_secret(path).read())
    except SecretFileError as error:
        raise AuthError(Reason.CREDENTIALS_UNAVAILABLE, str(error), setting=setting) from None


def read_secret(path: Path, setting: str = "") -> Secret:
    """The secret in a file; see ``read_secret_file``.

    Args:
        path: the file.
        setting: the setting that names it, for the error.

    Raises:
        AuthError: CREDENTIALS_UNAVAILABLE when there is none.
    """
    try:
        return Secret(read_secret_file(path))
    except SecretFileError as error:
        raise AuthError(Reason.CREDENTIALS_UNAVAILABLE, str(error), setting=setting) from None
