"""Bodies: bounded, and read in one way only."""

from __future__ import annotations

from http import HTTPStatus

import anyio
import pytest
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from mcp_adapter.messages import MAX_BATCH, calls, parse, read_body, replay, request_id_of
from mcp_adapter.refusals import Refusal

JSON_HEADERS = Headers({"content-type": "application/json"})

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nul",
        b'{"id": NaN}',
        b'{"id": Infinity}',
        b'{"method": "ping", "method": "tools/call"}',
        b'{"params": {"name": "public", "name": "whoami"}}',
        b'{"id": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        '{"method": "ping"}'.encode("utf-16"),
        b'\xef\xbb\xbf{"method": "ping"}',
        b'{"method": "\xff"}',
    ],
)
async def test_what_is_not_json_in_one_reading(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse(body)

    assert (caught.value.status, caught.value.code) == (400, -32700)


@pytest.mark.parametrize(
    "body",
    [
        b"1",
        b"null",
        b'"ping"',
        b"[]",
        b"[" + b"{}," * MAX_BATCH + b"{}]",
        b'{"method": 1}',
        b'[{"method": null}]',
    ],
)
async def test_what_is_no_message(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse(body)

    assert (caught.value.status, caught.value.code) == (400, -32600)


async def test_calls_are_requests_and_notifications() -> None:
    message = parse(
        b'[{"method": "a", "params": {"x": 1}}, {"method": "b", "id": 1, "params": [1]},'
        b' {"id": 1, "result": {}}, 3]'
    )

    assert list(calls(message)) == [("a", {"x": 1}), ("b", {})]


@pytest.mark.parametrize(
    ("body", "request_id"),
    [
        (b'{"id": 7}', 7),
        (b'{"id": "x"}', "x"),
        (b'{"id": true}', None),
        (b'{"id": 1.5}', None),
        (b'{"id": {}}', None),
        (b"{}", None),
        (b'[{"id": 7}]', None),
    ],
)
async def test_request_ids(body: bytes, request_id: int | str | None) -> None:
    assert request_id_of(parse(body)) == request_id


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
    headers = Headers({"content-type": content_type})

    with pytest.raises(Refusal) as caught:
        await read_body(arriving(), headers, max_bytes=4, timeout_seconds=1)

    assert caught.value.status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE
