"""What ends a drill."""

from __future__ import annotations


class DrillError(Exception):
    """What a drill waited for has not happened, or what it needs does not work."""
