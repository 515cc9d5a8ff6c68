"""Whether authsvc is on this machine: what reaches it then needs no TLS."""

from __future__ import annotations

from authsvc.client.targets import Targets


def is_on_this_machine(target: str) -> bool:
    """Whether every address and name in a target is a loopback one or a Unix socket.

    Raises:
        ValueError: it is no target.
    """
    return Targets.parse(target).on_this_machine
