"""Bodies: longer than Envoy reads, cut off, in chunks, and such as are no message."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest

from tests.gateways.configured import WRITING
from tests.gateways.deployed import Configuration, ext_authz_of
from tests.gateways.harness import Gateway, refusal, said, serving
from tests.gateways.upstreams import ASSERTION
from tests.mcp_adapter.harness import LEGACY, Endpoint, call, initialize, opened, request

pytestmark = pytest.mark.anyio

READ_BYTES = 4_194_304
"""What Envoy reads as it is deployed."""

CUT_OFF_BYTES = 1024
"""What Envoy reads where it passes on the rest."""

CHUNK_BYTES = 700


def cutting_off(configuration: Configuration) -> None:
    """Envoy sends Check the beginning of a long body, and the upstream all of it."""
    ext_authz_of(configuration)["with_request_body"] |= {
        "allow_partial_message": True,
        "max_request_bytes": CUT_OFF_BYTES,
    }


def as_text(configuration: Configuration) -> None:
    """Envoy sends Check a text, in which what is not UTF-8 is replaced."""
    ext_authz_of(configuration)["with_request_body"]["pack_as_bytes"] = False


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving("sdk-stateful", tmp_path_factory.mktemp("deployed")) as running:
        yield running


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("cut")
    with serving("sdk-stateful", folder, change=cutting_off, scopes=["base"]) as running:
        yield running


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving("sdk-stateful", tmp_path_factory.mktemp("text"), change=as_text) as running:
        yield running


def padded(message: object, length: int) -> bytes:
    """The message with white space before it, so that its end is past what is read."""
    content = json.dumps(message).encode()
    return b" " * (length - len(content)) + content


async def in_chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


def body_of(content: bytes, *, chunked: bool) -> bytes | AsyncIterator[bytes]:
    """A body with its length, or in chunks, whose number is not known before the end."""
    return in_chunks(content) if chunked else content


async def posted(
    client: Endpoint,
    content: bytes | AsyncIterator[bytes],
    *,
    session: str = "",
    token: str = "",
    **more: str,
) -> httpx2.Response:
    headers = {
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        **({"MCP-Protocol-Version": LEGACY, "Mcp-Session-Id": session} if session else {}),
        **({"Authorization": f"Bearer {token}"} if token else {}),
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return await client.http.post("/mcp", content=content, headers=headers)


@pytest.mark.parametrize("chunked", [False, True])
async def test_the_longest_body_is_served(deployed: Gateway, chunked: bool) -> None:
    async with deployed.client() as client:
        session = await opened(client)
        content = padded(call("whoami"), READ_BYTES - 1)
        body = body_of(content, chunked=chunked)
        answer = await posted(client, body, session=session, token=deployed.token())
    assert said(answer)["sub"] == "alice"


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_longer_body_is_too_long(deployed: Gateway, chunked: bool) -> None:
    async with deployed.client() as client:
        session = await opened(client)
        deployed.seen.clear()
        content = padded(call("whoami"), READ_BYTES + 1)
        body = body_of(content, chunked=chunked)
        answer = await posted(client, body, session=session, token=deployed.token())
    assert answer.status_code == 413
    assert not deployed.seen


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"1",
        b"[]",
        b"\xff{}",
        b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping"}{}',
    ],
)
async def test_what_is_no_message_reaches_no_upstream(deployed: Gateway, content: bytes) -> None:
    async with deployed.client() as client:
        session = await opened(client)
        deployed.seen.clear()
        answer = await posted(client, content, session=session, token=deployed.token())
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in {-32700, -32600}
    assert not deployed.seen


async def test_a_compressed_body_is_refused(deployed: Gateway) -> None:
    async with deployed.client() as client:
        answer = await posted(client, b"x", token=deployed.token(), content_encoding="gzip")
    assert answer.status_code == 415


# A body that is cut off may be any request: it needs a token, and all scopes of the route.


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("claim", [{}, {"x_envoy_auth_partial_body": "false"}])
async def test_a_cut_off_body_needs_everything(
    cut: Gateway, chunked: bool, claim: dict[str, str]
) -> None:
    """Whatever it is, and whatever its sender says of it."""
    needed = f"base {WRITING}"
    async with cut.client() as client:
        session = await opened(client)
        cut.seen.clear()
        for message in (initialize(), request("tools/list"), call("whoami")):
            content = padded(message, 3 * CUT_OFF_BYTES)
            body = body_of(content, chunked=chunked)
            nobody = await posted(client, body, session=session, **claim)
            assert nobody.status_code == 401
            body, token = body_of(content, chunked=chunked), cut.token(scope="base")
            lacks = await posted(client, body, session=session, token=token, **claim)
            assert refusal(lacks) == (403, "INSUFFICIENT_SCOPE")
            for refused in (nobody, lacks):
                challenge = refused.headers["www-authenticate"]
                (scopes,) = (it for it in challenge.split(", ") if "scope=" in it)
                assert set(scopes.partition('scope="')[2].rstrip('"').split()) == set(
                    needed.split()
                )
        assert not cut.seen

        token = cut.token(scope=needed)
        content = padded(call("whoami"), 3 * CUT_OFF_BYTES)
        body = body_of(content, chunked=chunked)
        served = await posted(client, body, session=session, token=token, **claim)
        assert said(served)["sub"] == "alice"


async def test_a_whole_body_is_read_as_ever(cut: Gateway) -> None:
    token = cut.token(scope="base")
    async with cut.client() as client:
        session = await opened(client)
        answer = await client.post(call("whoami"), session=session, token=token)
        assert said(answer)["sub"] == "alice"
        lacks = await client.post(call("write"), session=session, token=token)
        assert refusal(lacks) == (403, "INSUFFICIENT_SCOPE")


async def test_a_client_that_calls_its_body_cut_off_needs_everything(deployed: Gateway) -> None:
    """Envoy says what it has cut off; a client that says so gains nothing."""
    async with deployed.client() as client:
        session = await opened(client)
        content = json.dumps(request("tools/list")).encode()
        answer = await posted(client, content, session=session, x_envoy_auth_partial_body="true")
        # Envoy may have replaced the header.
        assert answer.status_code in {200, 401}


async def test_a_body_as_text(text: Gateway) -> None:
    """What Envoy has replaced, Check has not read."""
    async with text.client() as client:
        session = await opened(client)
        token = text.token()
        answer = await client.post(call("whoami"), session=session, token=token)
        assert said(answer)["sub"] == "alice"
        named = json.dumps(call("whoami")).replace("whoami", "wh\u00f6ami").encode()
        latin = named.decode().encode("latin-1")
        assert (await posted(client, latin, session=session)).status_code == 401
        lacks = await posted(client, latin, session=session, token=token)
        assert refusal(lacks) == (403, "INSUFFICIENT_SCOPE")


async def test_an_anonymous_body_reaches_no_upstream_with_an_identity(deployed: Gateway) -> None:
    async with deployed.client() as client:
        deployed.seen.clear()
        content = json.dumps(initialize()).encode()
        answer = await posted(client, body_of(content, chunked=True))
    assert answer.status_code == 200
    (seen,) = deployed.seen
    assert not seen.values(ASSERTION)
