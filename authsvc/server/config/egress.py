"""How endpoints are reached over HTTPS: settings that several tables have."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

CA_FILE = "Certificate authorities of it, PEM, beside the system's. A changed file takes effect."
PROXY = (
    "The HTTP proxy (CONNECT) to it, such as http://proxy.example.com:3128; may have a user and a "
    "password. The environment's proxies are never used."
)


class Egress(Protocol):
    """A table of an endpoint."""

    @property
    def ca_file(self) -> Path | None:
        """Authorities beside the system's."""
        ...

    @property
    def proxy(self) -> SecretStr | None:
        """The proxy's URL."""
        ...


def check_egress(table: Egress, **urls: str) -> None:
    """Check settings of TLS and a proxy against the URLs that they are for.

    Args:
        table: has the settings.
        urls: by the setting's name; without any, nothing is fetched.

    Raises:
        ValueError: one of them has no effect, or something other than https would go through the
            proxy.
    """
    for name in ("ca_file", "proxy"):
        if getattr(table, name) is None:
            continue
        if not urls:
            raise ValueError(f"{name} has no effect: nothing is fetched")
        for setting, url in urls.items():
            if url.lower().startswith("http:"):
                raise ValueError(f"{name} goes with https alone, and {setting} is an http URL")
