"""What is fuzzed, by name. Each has a corpus of its own in ``fuzz/corpus``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fuzz.answers import exchange_verdict, introspection_verdict
from fuzz.checks import check_verdict
from fuzz.claims import claims_verdict
from fuzz.discovery import metadata_verdict
from fuzz.http2 import http2_verdict
from fuzz.jwk_sets import jwk_set_verdict
from fuzz.signals import signals_verdict
from fuzz.tokens import signed, verdict

CORPUS = Path(__file__).parent / "corpus"


def _token(data: bytes) -> str:
    return verdict(signed(data) if data[:1] == b"{" else data)


TARGETS: dict[str, Callable[[bytes], str]] = {
    "tokens": _token,
    "introspection": introspection_verdict,
    "exchange": exchange_verdict,
    "discovery": metadata_verdict,
    "jwk_sets": jwk_set_verdict,
    "claims": claims_verdict,
    "http2": http2_verdict,
    "checks": check_verdict,
    "signals": signals_verdict,
}
"""By name: each takes an input, and returns the reason for which it is rejected, or nothing."""
