"""HMAC secrets in files: an issuer's current one, and those before it during a rotation."""

from __future__ import annotations

import logging
from pathlib import Path

from authsvc.common import guessable
from authsvc.tokens.keys import KeyLoadError, KeySet, VerificationKey, read_key_file

log = logging.getLogger(__name__)


def load_secret_file(path: Path, algorithm: str = "HS256") -> VerificationKey:
    """The secret in a file: its bytes, without a newline at the end.

    Raises:
        KeyLoadError: it is unreadable, shorter than the hash of ``algorithm``, guessable, or
            another kind of key.
    """
    secret = read_key_file(path).removesuffix(b"\n").removesuffix(b"\r")
    try:
        key = VerificationKey(None, algorithm, secret)
    except KeyLoadError as error:
        raise KeyLoadError(f"{path}: {error}") from None
    if fault := guessable.fault(secret):
        raise KeyLoadError(f"{path}: the secret can be guessed: {fault}; {guessable.REMEDY}")
    return key


class SecretFiles:
    """An issuer's HMAC secrets. An invalid file does not affect the others.

    Args:
        current: the file with the secret that signs its tokens now.
        previous: the files with secrets that signed them before.
        algorithm: of all of them.

    Raises:
        KeyLoadError: the current file is missing or invalid at the start.
    """

    def __init__(self, current: Path, *previous: Path, algorithm: str = "HS256") -> None:
        self._path = current
        self._previous = previous
        self._algorithm = algorithm
        self._current = load_secret_file(current, algorithm)

    def load(self) -> KeySet:
        """The secrets in the files.

        A previous secret whose file is gone, or holds no secret any more, is withdrawn. The current
        one stays in use until its file holds another: without it, all tokens would be rejected.
        Both are logged.

        Raises:
            KeyLoadError: there are too many.
        """
        failure = ""
        try:
            self._current = load_secret_file(self._path, self._algorithm)
        except KeyLoadError as error:
            failure = str(error)
            log.error("the current secret stays in use: %s", error)
        previous = []
        for path in self._previous:
            try:
                previous.append(load_secret_file(path, self._algorithm))
            except KeyLoadError as error:
                if not _is_gone(path):
                    log.error("a previous secret is withdrawn: %s", error)
        return KeySet((self._current,), tuple(previous), failure=failure)


def _is_gone(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False
