"""Assertions as an MCP server in TypeScript verifies them: jose, over the real listener."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from authsvc.assertions.key_ring import replace_keys
from authsvc.assertions.key_set import DAY_SECONDS
from authsvc.assertions.sealing import NoSeal
from authsvc.assertions.signer import Assertions
from tests.authsvc.assertions.test_jwks_endpoint import PATH, make, publishing, tampered
from tests.authsvc.assertions.test_signer import FILES, ISSUER, MAIL
from tests.support.node import installed, run_node

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def jose() -> None:
    installed("jose")


async def verified(address: str, *assertions: str, audience: str = FILES) -> list[dict[str, Any]]:
    """By jose, with one cache of keys: the claims of each, or the error."""
    asked = json.dumps([{"assertion": it, "audience": audience} for it in assertions])
    results: list[dict[str, Any]] = await run_node(
        "assertion.mjs", f"http://{address}{PATH}", ISSUER, asked
    )
    return results


async def test_jose_verifies_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with publishing(tmp_path, caplog, time.time) as (_, assertions, address):
        assertion = make(assertions)
        (result,) = await verified(address, assertion)
        assert result["claims"] == jwt.decode(assertion, options={"verify_signature": False})
        assert result["claims"]["sub"] == "alice"


async def test_jose_rejects_another_audience(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with publishing(tmp_path, caplog, time.time) as (_, assertions, address):
        results = await verified(address, make(assertions), make(assertions, MAIL), audience=MAIL)
        assert results[0] == {"error": "ERR_JWT_CLAIM_VALIDATION_FAILED"}
        assert results[1]["claims"]["aud"] == MAIL


async def test_jose_rejects_what_was_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with publishing(tmp_path, caplog, time.time) as (_, assertions, address):
        assertion = make(assertions)
        changed = [
            tampered(assertion, sub="bob"),
            tampered(assertion, exp=4_000_000_000),
            tampered(assertion, roles=["root"]),
        ]
        failed = {"error": "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"}
        assert await verified(address, *changed) == [failed] * 3


async def test_jose_rejects_other_jwts_of_the_same_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with publishing(tmp_path, caplog, time.time) as (_, assertions, address):
        key = assertions.keys.signing_key(time.time())
        claims = jwt.decode(make(assertions), options={"verify_signature": False})
        other = jwt.encode(claims, key.private, "ES256", headers={"kid": key.kid, "typ": "JWT"})
        assert await verified(address, other) == [{"error": "ERR_JWT_CLAIM_VALIDATION_FAILED"}]


async def test_jose_rejects_one_that_has_expired(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with publishing(tmp_path, caplog, lambda: time.time() - 61) as (_, assertions, address):
        assert await verified(address, make(assertions)) == [{"error": "ERR_JWT_EXPIRED"}]


class MovingClock:
    """The real time, and an offset."""

    offset = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset


async def refreshed(assertions: Assertions, clock: MovingClock, offset: float) -> str:
    """An assertion at another time."""
    clock.offset = offset
    await assertions.keys.refresh()
    return make(assertions)


async def test_jose_notices_no_rotation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = MovingClock()
    clock.offset = -30 * DAY_SECONDS
    async with publishing(tmp_path, caplog, clock) as (_, assertions, address):
        await refreshed(assertions, clock, -DAY_SECONDS)  # the next key is published
        before = await refreshed(assertions, clock, -5.0)
        after = await refreshed(assertions, clock, 0.0)
        assert jwt.get_unverified_header(before) != jwt.get_unverified_header(after)
        results = await verified(address, before, after)
        assert [it["claims"]["sub"] for it in results] == ["alice", "alice"]


async def test_jose_rejects_a_withdrawn_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with publishing(tmp_path, caplog, time.time) as (service, assertions, address):
        leaked = make(assertions)
        await replace_keys(service.store, NoSeal(), time.time())
        await assertions.keys.refresh()
        results = await verified(address, make(assertions), leaked)
        assert results[0]["claims"]["sub"] == "alice"
        assert results[1] == {"error": "ERR_JWKS_NO_MATCHING_KEY"}
