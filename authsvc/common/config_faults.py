"""Faults of several parts of a configuration, reported together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from authsvc.common.settings import ConfigError


class ConfigFaults:
    """Gathers faults, so that one does not hide the others. A fault that several parts have is
    reported once."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}

    @property
    def lines(self) -> list[str]:
        """The faults, each a line that names its setting."""
        return [*self._lines]

    def add(self, line: str) -> None:
        """Keep a fault."""
        self._lines[line] = None

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Keep what a ``ConfigError`` of the block says."""
        try:
            yield
        except ConfigError as error:
            self._lines |= dict.fromkeys(str(error).splitlines())

    def check(self) -> None:
        """
        Raises:
            ConfigError: there are faults: one line for each.
        """
        if self._lines:
            raise ConfigError("\n".join(self._lines))
