"""What costs are measured under: the configuration, and the sizes of an echo."""

from __future__ import annotations

import time
import tomllib

import jwt
import pytest

from authsvc.access.limits import CallerLimits
from authsvc.access.usage import Usages
from authsvc.domain.record import Limits
from authsvc.resolver.resolver import SessionResolver
from authsvc.server.config import LimitSettings
from authsvc.stores.memory import MemoryStore
from authsvc.tokens.jwt import Issuer, JwtVerifier
from authsvc.tokens.keys import KeySet, VerificationKey
from authsvc.wire import auth as wire
from bench.population import Population
from bench.stage import NO_LIMITS, RESPONSE_BYTES

pytestmark = pytest.mark.anyio


def test_its_limits_are_valid() -> None:
    limits = LimitSettings.model_validate(tomllib.loads(NO_LIMITS)["limits"])
    assert limits.max_concurrent_calls_per_caller == limits.max_concurrent_calls


async def test_an_echo_answers_as_many_bytes_as_row_8() -> None:
    population = Population.of(1)
    hmac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    key = VerificationKey("bench", "HS256", hmac.prepare_key(population.secret))
    resolver = SessionResolver(
        JwtVerifier([Issuer(population.issuer, KeySet((key,)))]),
        MemoryStore(unauthenticated_cap=1),
        None,
        limits=Limits(),
        usages=Usages(CallerLimits(), time.monotonic),
    )
    session_id, token = population.session_id(0), population.first_token(0)
    for _ in range(2):  # created, and then row 8
        resolution = await resolver.resolve(
            session_id, token, resource=population.resource, create=True
        )
    size = len(wire.response_message(resolution).SerializeToString())
    assert size == pytest.approx(RESPONSE_BYTES, rel=0.05)
