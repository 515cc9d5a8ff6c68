"""Encryption of the stored keys: AES-256-GCM under a key from a file."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from authsvc.common import guessable
from authsvc.common.file_faults import file_fault
from authsvc.common.secret_file import SecretFileError, read_secret_file

MIN_SECRET_CHARACTERS = 32

_FORMAT = b"\x01"
_NONCE_BYTES = 12


class SealError(ValueError):
    """The stored keys cannot be opened, or no file to encrypt them with can be used. The message
    names the file, and shows nothing of its content."""


class Seal(Protocol):
    """Encrypts what is stored under a name."""

    def seal(self, name: str, content: bytes) -> bytes:
        """What is stored.

        Raises:
            SealError: it cannot be encrypted.
        """
        ...

    def open(self, name: str, sealed: bytes) -> bytes:
        """The content of what is stored.

        Raises:
            SealError: it cannot be decrypted.
        """
        ...


class NoSeal:
    """For a store in this process's memory: nothing is encrypted."""

    def seal(self, name: str, content: bytes) -> bytes:
        """See ``Seal.seal``."""
        return content

    def open(self, name: str, sealed: bytes) -> bytes:
        """See ``Seal.open``."""
        return sealed


class FileSeal:
    """Encrypts with AES-256-GCM. The name and the format are authenticated with the content.

    Args:
        path: a file with a secret of 32 or more random characters. It is read at each use: another
            one takes effect with the next write.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self) -> None:
        """Check the file.

        Raises:
            SealError: it cannot be used.
        """
        self._cipher()

    def seal(self, name: str, content: bytes) -> bytes:
        """See ``Seal.seal``."""
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT + nonce + self._cipher().encrypt(nonce, content, _associated(name))

    def open(self, name: str, sealed: bytes) -> bytes:
        """See ``Seal.open``."""
        if not sealed.startswith(_FORMAT):
            raise SealError("the stored keys are not encrypted as this version of authsvc does it")
        nonce, encrypted = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        cipher = self._cipher()
        try:
            return cipher.decrypt(nonce, encrypted, _associated(name))
        except (InvalidTag, ValueError):
            raise SealError(
                f"{self._path} does not decrypt the stored keys: it is not the file that they were "
                "encrypted with. Restore that file, or replace the keys with: authsvc assertions "
                "rotate"
            ) from None

    def _cipher(self) -> AESGCM:
        secret = _secret(self._path)
        derived = HKDF(SHA256(), 32, salt=None, info=b"authsvc: keys of assertions, AES-256-GCM")
        return AESGCM(derived.derive(secret))


def _secret(path: Path) -> bytes:
    """
    Raises:
        SealError: the file cannot be read, may be read by every user, or is guessable.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        secret = read_secret_file(path).encode()
    except OSError as error:
        raise SealError(f"{file_fault(path, error)}; {guessable.REMEDY}") from None
    except SecretFileError as error:
        raise SealError(f"{error}; {guessable.REMEDY}") from None
    if mode & stat.S_IRWXO:
        raise SealError(f"{path} is open to all users (mode {mode:o}): chmod 600 {path}")
    if len(secret) < MIN_SECRET_CHARACTERS:
        raise SealError(
            f"{path} has less than {MIN_SECRET_CHARACTERS} characters; {guessable.REMEDY}"
        )
    if fault := guessable.fault(secret):
        raise SealError(f"{path} can be guessed: {fault}; {guessable.REMEDY}")
    return secret


def _associated(name: str) -> bytes:
    return _FORMAT + name.encode()
