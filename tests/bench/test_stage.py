"""The configuration that costs are measured under."""

from __future__ import annotations

import tomllib

from authsvc.server.config import LimitSettings
from bench.stage import NO_LIMITS


def test_its_limits_are_valid() -> None:
    limits = LimitSettings.model_validate(tomllib.loads(NO_LIMITS)["limits"])
    assert limits.max_concurrent_calls_per_caller == limits.max_concurrent_calls
