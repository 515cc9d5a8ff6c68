"""``make fuzz``: coverage-guided, for a bounded time.

Half of the inputs are taken as tokens, half as claims to be signed, by their first byte.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["authsvc"]):
    from fuzz.tokens import signed, verdict


def one_input(data: bytes) -> None:
    """One token, or one set of claims."""
    if data[:1] == b"{":
        verdict(signed(data))
    else:
        verdict(data)


atheris.Setup(sys.argv, one_input)
atheris.Fuzz()
