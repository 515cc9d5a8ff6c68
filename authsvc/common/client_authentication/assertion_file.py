"""Client authentication by an assertion that something else writes to a file and renews there.

A Kubernetes projected service account token and a SPIFFE JWT-SVID are such assertions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jwt

from authsvc.common.client_authentication.method import ClientParameters
from authsvc.common.client_authentication.private_key import ASSERTION_TYPE
from authsvc.common.secret_file import SecretFileError, held_secret
from authsvc.common.times import duration

AssertionType = Literal["jwt-bearer", "jwt-spiffe"]

SPIFFE_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
"""draft-ietf-oauth-spiffe-client-auth section 3.1."""

MAX_ASSERTION_BYTES = 65_536
"""The longest assertion that is read."""

_TYPES: dict[AssertionType, str] = {
    "jwt-bearer": ASSERTION_TYPE,
    "jwt-spiffe": SPIFFE_ASSERTION_TYPE,
}


class ExpiredAssertionError(SecretFileError):
    """The file holds an assertion that has expired: what writes the file does not renew it."""


@dataclass(frozen=True, slots=True)
class AssertionFile:
    """An assertion of a file, sent as it is (RFC 7521 section 4.2).

    The server verifies it. Here its form and ``exp`` are checked, so that an error names the file.

    Attributes:
        client_id: the client's name at the authorization server; empty where the server finds the
            client by the assertion's subject. The parameter is optional (RFC 7521 section 4.2).
        file: holds a JWT; read for each request.
        setting: see ``ClientAuthentication.setting``.
        assertion_type: of ``client_assertion_type``: RFC 7523 section 2.2, or
            draft-ietf-oauth-spiffe-client-auth.
    """

    client_id: str
    file: Path
    setting: str
    assertion_type: AssertionType = "jwt-bearer"

    def parameters(self, endpoint: str, now: float) -> ClientParameters:
        """See ``ClientAuthentication.parameters``.

        Raises:
            ExpiredAssertionError: the assertion has expired.
            SecretFileError: the file holds no JWT.
        """
        assertion = self._read()
        expires = _expiry(assertion, self.file)
        if expires is not None and expires <= now:
            raise ExpiredAssertionError(
                f"{self.file}: the assertion expired {duration(now - expires)} ago: what writes "
                "the file does not renew it, or this machine's clock is wrong"
            )
        form = {
            "client_assertion_type": _TYPES[self.assertion_type],
            "client_assertion": assertion,
        }
        if self.client_id:
            form["client_id"] = self.client_id
        return ClientParameters(form, secret=assertion)

    def expires(self) -> float | None:
        """When the assertion of the file expires, in seconds since the epoch; None if it has no
        ``exp``.

        Raises:
            SecretFileError: the file holds no JWT.
        """
        return _expiry(self._read(), self.file)

    def _read(self) -> str:
        return held_secret(self.file, MAX_ASSERTION_BYTES).read()


def _expiry(assertion: str, file: Path) -> float | None:
    """Claim ``exp``, without verification.

    Raises:
        SecretFileError: the text is no JWT with a signature, or its ``exp`` is no number. The
            message quotes nothing of it.
    """
    try:
        decoded = jwt.decode_complete(assertion, options={"verify_signature": False})
    except (jwt.InvalidTokenError, RecursionError):
        raise SecretFileError(f"{file}: holds no JWT") from None
    if not decoded["signature"]:
        raise SecretFileError(f"{file}: the JWT has no signature")
    expires = decoded["payload"].get("exp")
    if expires is None:
        return None
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        raise SecretFileError(f"{file}: claim exp of the JWT is no number")
    return float(min(expires, 2**53))
