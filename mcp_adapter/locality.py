"""Whether authsvc is on this machine: what reaches it then needs no TLS."""

from __future__ import annotations

from authsvc.addresses import is_local
from authsvc.client.targets import Targets


def is_on_this_machine(target: str) -> bool:
    """Whether every address and name in a target is a loopback one or a Unix socket.

    Raises:
        ValueError: it is no target.
    """
    targets = Targets.parse(target)
    named = [f"{name.host}:{name.port}" for name in targets.names]
    return all(map(is_local, [*named, *(endpoint.address for endpoint in targets.endpoints)]))
