"""The header Authorization of pushes (RFC 8935 section 3), where a stream's setting names one."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from pathlib import Path

from authsvc.common.secret_file import SecretFileError, read_secret_file
from authsvc.domain.errors import AuthError, Reason
from authsvc.signals.errors import SignalError, SignalErrorCode
from authsvc.tokens.compact import unverified_claims


class PushAuthorization:
    """Checks the header before anything else of a push is looked at but its issuer.

    Args:
        files: the files with the expected values, by the issuer of the stream. They are read at
            each push, so that a changed one takes effect.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = dict(files)

    def check(self, text: str, presented: Sequence[str]) -> None:
        """Check the header of a push.

        Args:
            text: the SET. Its issuer is not verified yet: a forger has to present that stream's
                header, or none where the stream has none, and is rejected later.
            presented: the values of the request's Authorization headers.

        Raises:
            SignalError: ``authentication_failed``.
            AuthError: SERVICE_UNAVAILABLE where the expected value cannot be read.
        """
        issuer = self.issuer(text)
        path = self._files.get(issuer)
        if path is None:
            return
        try:
            expected = read_secret_file(path)
        except SecretFileError as error:
            raise AuthError(
                Reason.SERVICE_UNAVAILABLE, str(error), setting=_setting(issuer)
            ) from None
        if len(presented) != 1 or not hmac.compare_digest(
            _comparable(presented[0]), _comparable(expected)
        ):
            raise SignalError(
                SignalErrorCode.AUTHENTICATION_FAILED,
                "The header Authorization is not the expected one.",
                setting=_setting(issuer),
            )

    @staticmethod
    def issuer(text: str) -> str:
        """Claim iss of a token that is not verified; empty where it has none."""
        if text.count(".") != 2:
            return ""
        try:
            issuer = unverified_claims(text).get("iss")
        except AuthError:
            return ""  # its processing says what is wrong
        return issuer if isinstance(issuer, str) else ""


def _setting(issuer: str) -> str:
    return f"signals.streams[{issuer}].push_authorization_file"


def _comparable(header: str) -> bytes:
    """A header with its scheme in lower case (RFC 9110 section 11.1)."""
    scheme, _, rest = header.strip().partition(" ")
    return f"{scheme.lower()} {rest.strip()}".encode()
