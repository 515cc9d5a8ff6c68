"""``python -m fuzz TARGET [OPTION]…``: fuzzing of one target, guided by coverage.

An input of ``tokens`` that begins with ``{`` is signed as claims; any other is a token.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["authsvc"]):
    from fuzz.targets import TARGETS

_, target, *options = sys.argv
function = TARGETS[target]


def one_input(data: bytes) -> None:
    """Give the target one input."""
    function(data)


atheris.Setup([sys.argv[0], *options], one_input)
atheris.Fuzz()
