"""How endpoints are reached over HTTPS: settings that several tables have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from authsvc.common.setting_rules import Fault

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


def egress_faults(table: Egress, **urls: str) -> Iterator[Fault]:
    """Faults of the settings of TLS and a proxy, against the URLs that they are for.

    Args:
        table: has the settings.
        urls: by the setting's name.
    """
    for name in ("ca_file", "proxy"):
        if getattr(table, name) is None:
            continue
        for setting, url in urls.items():
            if url.lower().startswith("http:"):
                yield Fault(f"goes with https alone, and {setting} is an http URL", (name,))
