"""Times on the command line."""

from __future__ import annotations

import re
import time

import click

from authsvc.common.times import parse

_AGO = re.compile(r"(\d{1,9})(s|min|h|d)")
_SECONDS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}


class Instant(click.ParamType[float]):
    """A time: RFC 3339, UTC where it does not say, or how long ago: ``90s 15min 2h 7d``."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds since the epoch."""
        text = str(value)
        ago = _AGO.fullmatch(text)
        if ago is not None:
            return time.time() - int(ago.group(1)) * _SECONDS[ago.group(2)]
        try:
            return parse(text)
        except ValueError:
            self.fail(f"{text!a} is no time like 2026-11-23T21:00:00Z, nor one like 2h", param, ctx)


INSTANT = Instant()
