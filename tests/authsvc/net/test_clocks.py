"""Clocks by the header ``Date``."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest

from authsvc.net.clocks import http_offset, http_time
from tests.support.clock import START
from tests.support.http import http_date

YEAR = 365 * 86_400


def dated(seconds: float, **more: str) -> dict[str, str]:
    return {"date": http_date(START + seconds), **more}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (dated(0), 0),
        (dated(1), 0),
        (dated(-2), 0),
        (dated(2), 2.5),
        (dated(-3), -2.5),
        (dated(60), 60.5),
        (dated(-60), -59.5),
        # A cache has kept the answer for that long.
        (dated(-300, age="300"), 0),
        (dated(-300, age="240"), -59.5),
        (dated(60, age="x"), 60.5),
        (dated(60, age="-60"), 60.5),
        (dated(60, age="1" * 5000), 60.5),
        (dated(60, age="\u0661"), 60.5),
        (dated(9 * YEAR), 9 * YEAR + 0.5),
        # Absurd.
        (dated(11 * YEAR), None),
        (dated(-11 * YEAR), None),
        (dated(0, age="999999999"), None),
        ({"date": "Thu, 01 Jan 1970 00:00:00 GMT"}, None),
        ({"date": "Mon, 01 Jan 0001 00:00:00 GMT"}, None),
        ({"date": "Mon, 01 Jan 9999 00:00:00 -2359"}, None),
        # No date.
        ({}, None),
        ({"date": ""}, None),
        ({"date": "yesterday"}, None),
        ({"date": "Fri, 32 Jan 2027 08:00:00 GMT"}, None),
        ({"date": "1800000000"}, None),
        ({"date": "Fri, 15 Jan 2027 25:00:00 GMT"}, None),
        ({"date": "Fri, 15 Jan 2027 08:00:00 +9999999999999"}, None),
        # RFC 9110 obliges a recipient to read the obsolete forms, too.
        ({"date": "Friday, 15-Jan-27 08:01:00 GMT"}, 60.5),
        # Without a known zone, it is UTC.
        ({"date": "Fri, 15 Jan 2027 08:01:00 -0000"}, 60.5),
        ({"date": "Fri, 15 Jan 2027 08:01:00"}, 60.5),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_the_offset_of_an_answer(
    headers: Mapping[str, str],
    expected: float | None,
    zone: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert http_offset(http_time(headers), START) == expected
    finally:
        monkeypatch.undo()
        time.tzset()
