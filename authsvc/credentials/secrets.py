"""authsvc's own secrets: files that are read each time, so that a rotation counts at once."""

from __future__ import annotations

from pathlib import Path

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Secret


def read_secret(path: Path) -> Secret:
    """A file's text, without white space around it.

    Raises:
        AuthError: CREDENTIALS_UNAVAILABLE when it cannot be read, is empty, or not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise AuthError(Reason.CREDENTIALS_UNAVAILABLE, f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AuthError(Reason.CREDENTIALS_UNAVAILABLE, f"{path}: not text") from None
    if not text:
        raise AuthError(Reason.CREDENTIALS_UNAVAILABLE, f"{path} is empty")
    return Secret(text)
