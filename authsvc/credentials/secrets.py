"""Secrets that authsvc itself needs for credentials, read at each use: a rotation takes effect with
the next call."""

from __future__ import annotations

from pathlib import Path

from authsvc.common.secret_file import SecretFileError, read_secret_file
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Secret


def read_secret(path: Path) -> Secret:
    """The secret in a file; see ``read_secret_file``.

    Raises:
        AuthError: CREDENTIALS_UNAVAILABLE when there is none.
    """
    try:
        return Secret(read_secret_file(path))
    except SecretFileError as error:
        raise AuthError(Reason.CREDENTIALS_UNAVAILABLE, str(error)) from None
