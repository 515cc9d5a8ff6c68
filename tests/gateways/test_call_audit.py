"""Calls through Envoy are audited: each once, whatever Envoy and authsvc cache."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from authsvc.domain.resolution import shown
from tests.gateways.harness import asked, refusal, said, serving
from tests.mcp_adapter.harness import call, opened

pytestmark = pytest.mark.anyio

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_calls_through_envoy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    audit = '[audit]\ncalls = "full"'
    with serving("sdk-stateful", tmp_path, tables=audit) as gateway:
        token = gateway.token()
        async with gateway.client() as client:
            session = await opened(client, token)
            for _ in range(3):
                assert said(await asked(client, session, token))["sub"] == "alice"
            traced = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
            await client.post(call("whoami"), session=session, token=token, headers=traced)
            denied = await client.post(call("write"), session=session, token=token)
            assert refusal(denied) == (403, "INSUFFICIENT_SCOPE")

    # authsvc has stopped, so all of them are written.
    events = [it.__dict__ for it in caplog.records if it.name == "authsvc.calls"]
    whoami = ("tools/call", "whoami", "SUCCEEDED", "", 0)
    named = [(it["method"], it["tool"], it["outcome"], it["reason"], it["status"]) for it in events]
    assert named == [
        ("initialize", "", "SUCCEEDED", "", 0),
        ("notifications/initialized", "", "SUCCEEDED", "", 0),
        *[whoami] * 4,
        ("tools/call", "write", "DENIED", "INSUFFICIENT_SCOPE", 403),
    ]
    for event in events[2:]:
        assert event["session"] == shown(session)
        assert event["subject"] == "alice"
        assert event["caller"] == "gateway"
        assert event["resource"] == gateway.resource
        assert event["client_address"] == "127.0.0.1"
    assert events[5]["trace_id"] == TRACE
    assert token not in caplog.text
