"""Client authentication by a secret that authsvc and the server share."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_plus

from authsvc.common.client_authentication.method import ClientParameters
from authsvc.common.secret_file import held_secret


@dataclass(frozen=True, slots=True)
class ClientSecretBasic:
    """``client_secret_basic``: HTTP Basic (RFC 6749 section 2.3.1).

    Id and secret are form-encoded before they are joined, as the section requires.

    Attributes:
        client_id: the client's name at the authorization server.
        file: holds its secret; read for each request.
        setting: see ``ClientAuthentication.setting``.
    """

    client_id: str
    file: Path
    setting: str

    def parameters(self, endpoint: str, now: float) -> ClientParameters:
        """See ``ClientAuthentication.parameters``."""
        secret = held_secret(self.file).read()
        pair = f"{quote_plus(self.client_id)}:{quote_plus(secret)}"
        credentials = base64.b64encode(pair.encode()).decode()
        return ClientParameters(headers={"Authorization": f"Basic {credentials}"}, secret=secret)


@dataclass(frozen=True, slots=True)
class ClientSecretPost:
    """``client_secret_post``: id and secret in the form (RFC 6749 section 2.3.1).

    Attributes:
        client_id: the client's name at the authorization server.
        file: holds its secret; read for each request.
        setting: see ``ClientAuthentication.setting``.
    """

    client_id: str
    file: Path
    setting: str

    def parameters(self, endpoint: str, now: float) -> ClientParameters:
        """See ``ClientAuthentication.parameters``."""
        secret = held_secret(self.file).read()
        return ClientParameters(
            {"client_id": self.client_id, "client_secret": secret}, secret=secret
        )
