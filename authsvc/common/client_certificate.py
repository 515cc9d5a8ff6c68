"""The certificate of a client's private key, which some servers find the key by."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from authsvc.common.secret_file import SecretFileError, read_secret_file

ThumbprintHeader = Literal["x5t#S256", "x5t"]


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate, and the header of assertions that has its thumbprint.

    Attributes:
        file: holds it, PEM; of several, the first counts.
        setting: the setting of the file, such as ``introspection.private_key_certificate_file``.
        header: ``x5t#S256`` for SHA-256, ``x5t`` for SHA-1 (RFC 7515 sections 4.1.8 and 4.1.7).
    """

    file: Path
    setting: str
    header: ThumbprintHeader = "x5t#S256"

    def headers(self, key: PublicKeyTypes, key_file: Path) -> dict[str, str]:
        """The header of an assertion, by its name.

        Args:
            key: the public key of the key that signs.
            key_file: the file of that key, for the message of an error.

        Raises:
            SecretFileError: the file holds no certificate, or that of another key.
        """
        certificate = self.certificate()
        if _public_key(certificate) != key:
            raise SecretFileError(
                f"{self.file}: the certificate does not belong to the key in {key_file}",
                setting=self.setting,
            )
        # SHA-1 is a name here; what is signed does not depend on it.
        digest = SHA256() if self.header == "x5t#S256" else SHA1()  # noqa: S303
        thumbprint = base64.urlsafe_b64encode(certificate.fingerprint(digest))
        return {self.header: thumbprint.rstrip(b"=").decode()}

    def certificate(self) -> x509.Certificate:
        """What the file holds now.

        Raises:
            SecretFileError: it holds no certificate.
        """
        try:
            return x509.load_pem_x509_certificate(read_secret_file(self.file).encode())
        except SecretFileError as error:
            raise SecretFileError(str(error), setting=self.setting) from None
        except ValueError:
            # The error itself may quote the file, which may hold the key as well.
            raise SecretFileError(
                f"{self.file}: holds no certificate in PEM", setting=self.setting
            ) from None


def _public_key(certificate: x509.Certificate) -> PublicKeyTypes | None:
    """The certificate's key; None for one of a kind that is not supported, which is not ours."""
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
