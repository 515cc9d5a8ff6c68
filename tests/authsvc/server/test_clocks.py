"""Clocks of the store, of issuers and of streams of signals against a service's own."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from authsvc.server.assembly import assembled
from authsvc.server.clocks import clock_offsets
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.http import Answer, serving_http
from tests.support.keys import jwks, signer
from tests.support.service import serving, settings_for
from tests.support.signals import CLIENT
from tests.support.tokens import ISSUER, IdentityProvider

pytestmark = pytest.mark.anyio

SIGNALS = "https://signals.example"


async def test_the_clocks_of_all_peers(tmp_path: Path, idp: IdentityProvider) -> None:
    clock = Clock(time.time() - 1000)
    with serving_http() as site, serving_http() as of_signals:
        site.clock, of_signals.clock = (lambda: clock() + 500), (lambda: clock() - 500)
        for it in (site, of_signals):
            it.answers["/jwks"] = Answer(jwks(signer("k")))
        keys = {"algorithms": ["ES256"], "jwks_url": f"{site.url}/jwks"}
        of_stream = {"algorithms": ["ES256"], "jwks_url": f"{of_signals.url}/jwks"}
        streams = [
            {"issuer": name, "audiences": [CLIENT], "applies_to": [ISSUER], **of_stream}
            for name in (ISSUER, SIGNALS)
        ]
        settings = settings_for(
            tmp_path,
            idp,
            "redis",
            issuers=[{"issuer": ISSUER, **keys}],
            signals={"listen": "127.0.0.1:0", "streams": streams},
        )
        async with assembled(settings, clock) as service:
            only_store = await clock_offsets(service)
            assert set(only_store) == {"store"}
            await service.verifier.refresh(clock())
            assert service.signals is not None
            await service.signals.refresh(clock())
            offsets = await clock_offsets(service)
            # What a store that has failed has is unknown.
            await service.store.close()
            assert set(await clock_offsets(service)) == {ISSUER, SIGNALS}
    assert set(offsets) == {"store", ISSUER, SIGNALS}
    assert offsets["store"] == pytest.approx(1000, abs=TIMEOUT_SECONDS)
    # By the keys of its tokens, where an issuer has others for signals.
    assert offsets[ISSUER] == pytest.approx(500, abs=TIMEOUT_SECONDS)
    assert offsets[SIGNALS] == pytest.approx(-500, abs=TIMEOUT_SECONDS)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_store_without_a_clock(store: str, tmp_path: Path, idp: IdentityProvider) -> None:
    async with assembled(settings_for(tmp_path, idp, store), Clock()) as service:
        assert await clock_offsets(service) == {}


async def test_a_service_without_metrics_logs_it(
    tmp_path: Path, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "authsvc.telemetry.clocks")
    clock = Clock(time.time() + 3600)
    async with (
        serving(settings_for(tmp_path, idp, "redis"), clock),
        asyncio.timeout(TIMEOUT_SECONDS),
    ):
        while "the clock of store is 3" not in caplog.text:  # noqa: ASYNC110 - a line of the log
            await asyncio.sleep(0.01)
    assert "behind this machine's" in caplog.text
