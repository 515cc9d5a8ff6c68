"""Addresses that one of authsvc's HTTP servers listens on, beside the gRPC listener."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from authsvc.common.setting_rules import Fault
from authsvc.net.addresses import is_local, is_taken


def listening_faults(
    table: str, listen: str, others: Mapping[str, str], *, has_tls: bool, reason: str
) -> Iterator[Fault]:
    """Faults of an address.

    Args:
        table: the table whose ``listen`` it is.
        listen: the address.
        others: the other addresses that authsvc listens on, by their settings.
        has_tls: whether ``[tls]`` is set.
        reason: why other machines may reach it over TLS alone.
    """
    at = (table, "listen")
    for setting, by in others.items():
        if is_taken(listen, by):
            yield Fault(f"is the address of {setting}: choose another port", at)
    if not is_local(listen) and not has_tls:
        yield Fault(f"can be reached from other machines and needs [tls]: {reason}", at)
