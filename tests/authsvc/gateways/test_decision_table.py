"""The decision table (docs/sessions.md) through Envoy's Check, on every store, row by row."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import jwt
import pytest

from authsvc.domain.resolution import Session
from tests.support.checks import (
    MODERN,
    Answer,
    Behind,
    rpc,
    serving_gateways,
    tool_call,
    with_gateways,
)
from tests.support.clock import Clock
from tests.support.service import STORE_KINDS, settings_for
from tests.support.tokens import OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio


@pytest.fixture(params=STORE_KINDS)
async def behind(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock, idp: IdentityProvider
) -> AsyncIterator[Behind]:
    """Authsvc mints the sessions of RESOURCE, and adopts those of OTHER_RESOURCE."""
    changes = with_gateways({"resource": RESOURCE, "adopt_sessions": False})
    if request.param != "memory":
        key = tmp_path / "assertion.key"
        key.write_text(secrets.token_hex(32))
        key.chmod(0o600)
        changes["assertions"] = {**changes["assertions"], "encryption_key_file": key}
    settings = settings_for(tmp_path, idp, request.param, **changes)
    async with serving_gateways(settings, clock) as it:
        yield it


async def minted(behind: Behind, token: str = "") -> str:
    """A new session."""
    answer = await behind.gateway.post(rpc("initialize"), token=token)
    assert answer.allowed
    return answer.to_client["mcp-session-id"]


async def call(behind: Behind, session: str, token: str = "", **more: object) -> Answer:
    return await behind.gateway.post(tool_call(), session=session, token=token, **more)


def subject(answer: Answer) -> str:
    return str(claims(answer)["sub"])


def claims(answer: Answer) -> dict[str, object]:
    assert answer.allowed
    return jwt.decode(answer.assertion, options={"verify_signature": False})


async def stored(behind: Behind, session: str) -> Session:
    """The session, read without a token, which changes nothing."""
    resolution = await behind.service.client.resolve(session, "", resource=RESOURCE)
    assert resolution.session is not None
    return resolution.session


async def test_row_1(behind: Behind) -> None:
    answer = await behind.gateway.post(rpc("initialize"))
    assert answer.allowed
    session = answer.to_client["mcp-session-id"]
    assert len(session) >= 22
    assert (answer.assertion, answer.metadata["outcome"]) == ("", "created")
    assert (await stored(behind, session)).revision == 1


async def test_row_2(behind: Behind, idp: IdentityProvider) -> None:
    answer = await behind.gateway.post(rpc("initialize"), token=idp.token())
    assert (subject(answer), answer.metadata["outcome"]) == ("alice", "created")
    assert subject(await call(behind, answer.to_client["mcp-session-id"], idp.token())) == "alice"


async def test_row_3(behind: Behind, idp: IdentityProvider) -> None:
    answer = await behind.gateway.post(rpc("initialize"), token=idp.forged())
    assert answer.refusal == (401, "TOKEN_SIGNATURE_INVALID")
    assert answer.to_client == {}


async def test_row_4(behind: Behind, idp: IdentityProvider) -> None:
    for token in ("", idp.token(), idp.forged()):
        answer = await call(behind, "unknown", token)
        assert answer.refusal == (404, "SESSION_NOT_FOUND")


async def test_row_5(behind: Behind) -> None:
    session = await minted(behind)
    before = await stored(behind, session)
    for _ in range(2):
        answer = await behind.gateway.post(rpc("tools/list"), session=session)
        assert (answer.allowed, answer.assertion) == (True, "")
        assert answer.metadata["outcome"] == "reused"
    assert await stored(behind, session) == before


async def test_row_6(behind: Behind, idp: IdentityProvider) -> None:
    session = await minted(behind)
    answer = await call(behind, session, idp.token())
    assert (subject(answer), answer.metadata["outcome"]) == ("alice", "reauthenticated")
    assert (await stored(behind, session)).revision == 2


async def test_row_7(behind: Behind, idp: IdentityProvider) -> None:
    good = idp.token()
    session = await minted(behind, good)
    before = await stored(behind, session)
    for bad in ("rubbish", idp.forged(), idp.token(ttl_seconds=-60), idp.token(aud="https://x.y")):
        for message in (tool_call(), rpc("ping")):
            answer = await behind.gateway.post(message, session=session, token=bad)
            assert answer.status == 401
            assert 'error="invalid_token"' in answer.headers["www-authenticate"]
            assert answer.metadata["reason"] == answer.reason
            assert answer.reason.startswith("TOKEN_")
        assert await stored(behind, session) == before
    assert subject(await call(behind, session, good)) == "alice"


async def test_row_8(behind: Behind, idp: IdentityProvider) -> None:
    token = idp.token()
    session = await minted(behind, token)
    first, second = await call(behind, session, token), await call(behind, session, token)
    assert (first.allowed, first.metadata["outcome"]) == (True, "reused")
    assert first == second


async def test_row_9(behind: Behind, idp: IdentityProvider, clock: Clock) -> None:
    token = idp.token(ttl_seconds=60)
    session = await minted(behind, token)
    clock.advance(90)
    assert (await call(behind, session, token)).refusal == (401, "TOKEN_EXPIRED")
    assert subject(await call(behind, session, idp.token())) == "alice"


async def test_rows_10_and_11(behind: Behind, idp: IdentityProvider, clock: Clock) -> None:
    a = idp.token()
    session = await minted(behind, a)
    clock.advance(1)
    b = idp.token(roles=["analyst"])
    expected = {a: (["reader"], "reused"), b: (["analyst"], "reused")}
    switched = await call(behind, session, b)
    assert (claims(switched)["roles"], switched.metadata["outcome"]) == (
        ["analyst"],
        "reauthenticated",
    )
    for token in (a, b, a):
        answer = await call(behind, session, token)
        assert (claims(answer)["roles"], answer.metadata["outcome"]) == expected[token]


async def test_row_12(
    behind: Behind, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    owner = idp.token()
    session = await minted(behind, owner)
    stranger = await call(behind, session, idp.token("mallory"))
    unknown = await call(behind, "unknown", owner)
    assert stranger.refusal == (404, "SESSION_NOT_FOUND")
    assert stranger == unknown
    assert subject(await call(behind, session, owner)) == "alice"
    events = [it.__dict__["event_type"] for it in caplog.records if "security" in it.name]
    assert events == ["SESSION_CREATED", "SUBJECT_MISMATCH"]


async def test_row_13(behind: Behind, idp: IdentityProvider) -> None:
    token = idp.token()
    session = await minted(behind, token)
    answer = await call(behind, session)
    assert answer.status == 401
    assert "error=" not in answer.headers["www-authenticate"]
    opened = await behind.gateway.post(rpc("ping"), session=session)
    assert (opened.allowed, opened.assertion) == (True, "")
    assert "subject" not in opened.metadata
    assert subject(await call(behind, session, token)) == "alice"


async def test_row_14(behind: Behind, idp: IdentityProvider) -> None:
    token = idp.token()
    session = await minted(behind, token)
    await behind.service.client.revoke(session)
    for presented in ("", token):
        assert (await call(behind, session, presented)).refusal == (404, "SESSION_NOT_FOUND")


async def test_row_15(behind: Behind, idp: IdentityProvider, clock: Clock) -> None:
    session = await minted(behind)
    clock.advance(3600)
    assert (await call(behind, session, idp.token())).refusal == (404, "SESSION_NOT_FOUND")


async def test_row_16(behind: Behind) -> None:
    answer = await call(behind, "", version=MODERN)
    assert answer.status == 401
    opened = await behind.gateway.post(rpc("tools/list"), version=MODERN)
    assert (opened.allowed, opened.assertion) == (True, "")
    assert opened.metadata["outcome"] == "anonymous"


async def test_row_17(behind: Behind, idp: IdentityProvider, clock: Clock) -> None:
    a = idp.token()
    assert claims(await call(behind, "", a, version=MODERN))["roles"] == ["reader"]
    clock.advance(1)
    b = idp.token(roles=["analyst"])
    for token, roles in ((b, ["analyst"]), (a, ["reader"]), (b, ["analyst"])):
        assert claims(await call(behind, "", token, version=MODERN))["roles"] == roles
    refused = await call(behind, "", idp.forged(), version=MODERN)
    assert refused.refusal == (401, "TOKEN_SIGNATURE_INVALID")


async def test_row_17_without_a_session_where_sessions_are_adopted(
    behind: Behind, idp: IdentityProvider
) -> None:
    token = idp.token(aud=OTHER_RESOURCE)
    answer = await behind.gateway.post(rpc("initialize"), token=token, resource=OTHER_RESOURCE)
    assert (subject(answer), answer.to_client) == ("alice", {})
