"""Bodies: read within bounds."""

from __future__ import annotations

from http import HTTPStatus

import anyio
import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from authsvc.http_auth.headers import Headers
from authsvc.http_auth.refusals import Refusal
from mcp_adapter.gate.body_reading import read_body
from mcp_adapter.gate.inner_requests import replay

JSON_HEADERS = Headers([(b"content-type", b"application/json")])

pytestmark = pytest.mark.anyio


def arriving(*events: Message) -> Receive:
    """A body that comes in these pieces, and then no more."""
    pending = list(events)

    async def receive() -> Message:
        if not pending:
            await anyio.sleep_forever()
        return pending.pop(0)

    return receive


def piece(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_in_pieces_is_put_together_and_replayed() -> None:
    end: Message = {"type": "http.disconnect"}
    receive = arriving(piece(b"ab", more=True), piece(b"cd", more=False), end)

    body = await read_body(receive, JSON_HEADERS, max_bytes=4, timeout_seconds=1)
    again = replay(body, receive)

    assert await again() == piece(b"abcd", more=False)
    assert await again() == end


async def test_too_many_bytes_are_refused_as_they_come() -> None:
    receive = arriving(piece(b"ab", more=True), piece(b"cde", more=True))

    with pytest.raises(Refusal) as caught:
        await read_body(receive, JSON_HEADERS, max_bytes=4, timeout_seconds=1)

    assert caught.value.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    receive = arriving(piece(b"ab", more=True))

    with pytest.raises(Refusal) as caught:
        await read_body(receive, JSON_HEADERS, max_bytes=4, timeout_seconds=0.01)

    assert caught.value.status == HTTPStatus.REQUEST_TIMEOUT


async def test_a_client_that_leaves_gets_nothing() -> None:
    with pytest.raises(ClientDisconnect):
        await read_body(
            arriving({"type": "http.disconnect"}), JSON_HEADERS, max_bytes=4, timeout_seconds=1
        )


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/jsonp", "text/json"])
async def test_a_body_of_another_type_is_refused_unread(content_type: str) -> None:
    headers = Headers([(b"content-type", content_type.encode())])

    with pytest.raises(Refusal) as caught:
        await read_body(arriving(), headers, max_bytes=4, timeout_seconds=1)

    assert caught.value.status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize("length", [b"0" * 5000 + b"4", b"9" * 5000, b"0" * 5000])
async def test_a_length_may_have_any_number_of_digits(length: bytes) -> None:
    headers = Headers([*JSON_HEADERS.raw, (b"content-length", length)])
    receive = arriving(piece(b"[12]", more=False))

    if length.startswith(b"9"):
        with pytest.raises(Refusal) as refused:
            await read_body(receive, headers, max_bytes=4, timeout_seconds=1)
        assert refused.value.status == 413
    else:
        assert await read_body(receive, headers, max_bytes=4, timeout_seconds=1) == b"[12]"
