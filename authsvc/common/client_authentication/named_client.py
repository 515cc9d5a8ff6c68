"""Methods that add nothing secret to a request: the client is named, or not even that."""

from __future__ import annotations

from dataclasses import dataclass

from authsvc.common.client_authentication.method import ClientParameters


@dataclass(frozen=True, slots=True)
class NamedClient:
    """``client_id`` in the form (RFC 6749 section 3.2.1), and nothing that proves it there.

    For ``tls_client_auth`` and ``self_signed_tls_client_auth`` (RFC 8705 section 2) the certificate
    of the connection proves it: see ``authsvc.net.client_identity``. For ``none`` nothing does.

    Attributes:
        client_id: the client's name at the authorization server; empty for none.
        setting: see ``ClientAuthentication.setting``.
    """

    client_id: str
    setting: str

    def parameters(self, endpoint: str, now: float) -> ClientParameters:
        """See ``ClientAuthentication.parameters``."""
        return ClientParameters({"client_id": self.client_id} if self.client_id else {})
