"""From the settings of an endpoint to what reaches it over HTTPS."""

from __future__ import annotations

from typing import Protocol

from authsvc.common.file_faults import file_fault
from authsvc.common.settings import ConfigError
from authsvc.net.fetching import Fetcher
from authsvc.net.proxies import Proxy, read_proxy
from authsvc.net.trust import Trust
from authsvc.server.config.egress import Egress


class FetchSettings(Egress, Protocol):
    """A table of an endpoint that a ``Fetcher`` asks."""

    @property
    def allow_private_addresses(self) -> bool:
        """Whether it may have a private address."""
        ...


def fetcher_of(table: FetchSettings, where: str) -> Fetcher:
    """A fetcher as configured.

    Args:
        table: the settings.
        where: the table's name, for errors.

    Raises:
        ConfigError: ``ca_file`` cannot be used.
    """
    return Fetcher(table.allow_private_addresses, trust_of(table, where), proxy_of(table))


def trust_of(table: Egress, where: str) -> Trust | None:
    """The certificate authorities; None for the system's alone.

    Raises:
        ConfigError: ``ca_file`` cannot be used.
    """
    if table.ca_file is None:
        return None
    try:
        return Trust(table.ca_file)
    except OSError as error:
        raise ConfigError(f"{where}.ca_file: {file_fault(table.ca_file, error)}") from None
    except ValueError as error:
        raise ConfigError(f"{where}.ca_file: {error}") from None


def proxy_of(table: Egress) -> Proxy | None:
    """The proxy; None for direct connections."""
    return None if table.proxy is None else read_proxy(table.proxy.get_secret_value())
