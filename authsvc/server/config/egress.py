"""How endpoints are reached over HTTPS: settings that several tables have."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

from authsvc.common.formats import check_issuer
from authsvc.common.setting_rules import Fault
from authsvc.net.addresses import is_loopback
from authsvc.net.public_addresses import is_public

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


def discovery_faults(issuer: str) -> Iterator[Fault]:
    """A fault where metadata cannot be looked for at an issuer's own URL."""
    try:
        check_issuer(issuer)
    except ValueError as error:
        yield Fault(f"discover: issuer {error}")


def private_faults(*, allowed: bool, **urls: str) -> Iterator[Fault]:
    """A fault for each URL with an address that would not be connected to.

    Args:
        allowed: ``allow_private_addresses``.
        urls: by the setting's name.
    """
    for setting, url in urls.items():
        host = (urlsplit(url).hostname or "") if not allowed else ""
        try:
            is_refused = not (is_loopback(host) or is_public(ipaddress.ip_address(host)))
        except ValueError:
            continue  # a name, whose address may be anything
        if is_refused:
            yield Fault("has a private address: set allow_private_addresses = true", (setting,))
