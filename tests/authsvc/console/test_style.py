"""The style sheet: whether its colours can be read, in light and in dark (WCAG 2.2, 1.4.3)."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

STYLE = files("authsvc.console").joinpath("static", "console.css").read_text()

ROOTS = [
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
]

TEXT_ON_GROUND = [
    *((text, ground) for text in ("text", "quiet", "accent") for ground in ("ground", "surface")),
    *((text, "hover") for text in ("text", "quiet")),
    ("accent-text", "accent"),
    ("surface", "bad"),
    *((name, f"{name}-ground") for name in ("good", "warn", "bad", "idle", "blue")),
]


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG defines it."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in channels]
    return sum(weight * it for weight, it in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", ROOTS, ids=("light", "dark"))
def test_text_can_be_read(colours: dict[str, str]) -> None:
    for text, ground in TEXT_ON_GROUND:
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast(colours["edge"], colours["surface"]) >= 3  # 1.4.11


def test_nothing_is_loaded_from_other_hosts() -> None:
    assert "url(" not in STYLE
    assert "@import" not in STYLE
