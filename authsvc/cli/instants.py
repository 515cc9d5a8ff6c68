"""Times on the command line."""

from __future__ import annotations

import re
import time

import click

from authsvc.common.times import parse

_AGO = re.compile(r"(\d{1,9})(s|min|h|d)")
_SECONDS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}


class PastInstant(click.ParamType[float]):
    """A time between 1970 and now: RFC 3339, in UTC unless it has an offset, or an age:
    ``90s 15min 2h 7d``."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds since the epoch."""
        text = str(value)
        now = time.time()
        ago = _AGO.fullmatch(text)
        try:
            given = now - int(ago[1]) * _SECONDS[ago[2]] if ago is not None else parse(text)
        except ValueError:
            self.fail(f"{text!a} is not a time such as 2026-11-23T21:00:00Z or 2h", param, ctx)
        if not 0 <= given <= now:
            self.fail(f"{text!a} is not between 1970 and now", param, ctx)
        return given


PAST_INSTANT = PastInstant()
