"""``make fuzz``: coverage-guided fuzzing, for a bounded time.

An input that begins with ``{`` is signed as claims; any other is a token.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["authsvc"]):
    from fuzz.tokens import signed, verdict


def one_input(data: bytes) -> None:
    """Verify one token, or one set of claims."""
    if data[:1] == b"{":
        verdict(signed(data))
    else:
        verdict(data)


atheris.Setup(sys.argv, one_input)
atheris.Fuzz()
