"""Client authentication at an authorization server, by HTTP Basic (RFC 6749 section 2.3.1)."""

from __future__ import annotations

import base64
from urllib.parse import quote_plus


def basic_authorization(client_id: str, client_secret: str) -> dict[str, str]:
    """The header that authenticates a client. Both parts are form-encoded before they are joined.

    Args:
        client_id: the client's name at the authorization server.
        client_secret: its secret there.
    """
    pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
