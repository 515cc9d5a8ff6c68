"""Requests that two servers could read differently are rejected once; their connection ends."""

from __future__ import annotations

import pytest
from starlette.types import Receive, Scope, Send

from tests.support.http_server import GET, serving

pytestmark = pytest.mark.anyio

POST = b"POST /x HTTP/1.1\r\nHost: a.example\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a.example\r\n\r\n"

REFUSED = {
    "CL and TE": POST
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + HIDDEN,
    "TE and CL": POST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"
    + HIDDEN,
    "CL 0 and TE": POST + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "CL twice, differing": POST + b"Content-Length: 0\r\nContent-Length: 42\r\n\r\n" + HIDDEN,
    "CL twice, the same": POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "CL list": POST + b"Content-Length: 0, 0\r\n\r\n" + HIDDEN,
    "CL signed": POST + b"Content-Length: +0\r\n\r\n" + HIDDEN,
    "CL negative": POST + b"Content-Length: -1\r\n\r\n" + HIDDEN,
    "CL hexadecimal": POST + b"Content-Length: 0x0\r\n\r\n" + HIDDEN,
    "CL with a space": POST + b"Content-Length: 4 2\r\n\r\n" + HIDDEN,
    "CL empty": POST + b"Content-Length:\r\n\r\n" + HIDDEN,
    "CL too large for any integer": POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "TE unknown": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "TE identity": POST + b"Transfer-Encoding: identity\r\n\r\n" + HIDDEN,
    "TE gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "TE chunked, gzip": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n" + HIDDEN,
    "TE chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "TE in two lines": POST
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + HIDDEN,
    "TE with a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "TE by HTTP/1.0": b"POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "obsolete folding": POST + b"X: a\r\n b\r\n\r\n" + HIDDEN,
    "folding before the first header": b"GET / HTTP/1.1\r\n Host: a.example\r\n\r\n" + HIDDEN,
    "space before the colon": POST + b"Content-Length : 0\r\n\r\n" + HIDDEN,
    "tab before the colon": POST + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "no colon": POST + b"X\r\n\r\n" + HIDDEN,
    "empty name": POST + b": x\r\n\r\n" + HIDDEN,
    "name with a control character": POST + b"X\x01: x\r\n\r\n" + HIDDEN,
    "name that is not ASCII": POST + b"X\xe9: x\r\n\r\n" + HIDDEN,
    "NUL in a value": POST + b"X: a\x00b\r\n\r\n" + HIDDEN,
    "NUL in a name": POST + b"X\x00: b\r\n\r\n" + HIDDEN,
    "control character in a value": POST + b"X: a\x07b\r\n\r\n" + HIDDEN,
    "bare CR in a value": POST + b"X: a\rY: b\r\n\r\n" + HIDDEN,
    "bare CR at the end of a line": POST + b"X: a\r\rY: b\r\n\r\n" + HIDDEN,
    "bare LF": POST + b"X: a\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "bare LF after the request line": b"GET / HTTP/1.1\nHost: a.example\n\n" + HIDDEN,
    "no Host": b"GET / HTTP/1.1\r\n\r\n" + HIDDEN,
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n" + HIDDEN,
    "two Hosts by HTTP/1.0": b"GET / HTTP/1.0\r\nHost: a.example\r\nHost: b.example\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n" + HIDDEN,
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: a.example\r\n\r\n" + HIDDEN,
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: a.example\r\n\r\n" + HIDDEN,
    "HTTP/2 by prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "space in the target": b"GET /a b HTTP/1.1\r\nHost: a.example\r\n\r\n" + HIDDEN,
    "control character in the target": b"GET /\x01 HTTP/1.1\r\nHost: a.example\r\n\r\n" + HIDDEN,
    "target that is not ASCII": b"GET /\xe9 HTTP/1.1\r\nHost: a.example\r\n\r\n" + HIDDEN,
    **{
        f"target {target}": b"GET %b HTTP/1.1\r\nHost: a.example\r\n\r\n" % target.encode() + HIDDEN
        for target in (
            *(
                "http://b.example/",
                "http://a.example:80/",
                "http://u@a.example/",
                "http://a.example",
            ),
            *("https://a.example.b.example/", "http://a.example?x", "ftp://a.example/", "x"),
        )
    },
    "CONNECT": b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n" + HIDDEN,
    "CONNECT to a path": b"CONNECT /x HTTP/1.1\r\nHost: a.example\r\n\r\n" + HIDDEN,
    "Upgrade with a body": POST
    + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello"
    + HIDDEN,
    "Upgrade with chunks": POST
    + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TLS": bytes.fromhex("160301020001000001fc0303") + bytes(64),
    "chunk of no size": POST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n\r\n" + HIDDEN,
    "chunk of a negative size": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + HIDDEN,
    "chunk with 0x": POST + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n" + HIDDEN,
    "chunk that is longer": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
    "chunk after a bare LF": POST + b"Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n" + HIDDEN,
    "chunk ended by a bare LF": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n",
    "space after a chunk's size": POST + b"Transfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n",
    "chunk size too large for any integer": POST
    + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\na\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED.keys())
async def test_an_ambiguous_request_is_rejected_once_and_ends_its_connection(
    raw: bytes,
) -> None:
    async with serving() as served:
        said = await served.says(raw)
    assert said.count(b"HTTP/1.1 ") == 1
    assert said.split()[1] in {b"400", b"501", b"505"}
    assert b"\r\nconnection: close\r\n" in said.lower()
    assert served.requests == []


@pytest.mark.parametrize("target", [b"http://a.example/x", b"HTTPS://A.example/x"])
async def test_a_target_may_name_the_host_that_host_names(target: bytes) -> None:
    request = b"GET %b HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
    async with serving() as served:
        said = await served.says(request % target)

    assert said.split()[1] == b"200"
    assert [path for _, path, _ in served.requests] == ["/x"]


async def test_a_body_that_breaks_after_its_response_gets_no_second_one() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body"})

    head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    async with serving(app) as served, await served.send(head) as peer:
        assert await peer.answer() == (401, b"")
        await peer.send(b"x\r\n")
        assert await peer.rest() == b""


@pytest.mark.parametrize("split", [1, 7])
async def test_an_ambiguous_request_in_pieces_is_rejected(split: int) -> None:
    raw = REFUSED["CL and TE"]
    async with serving() as served, await served.connect() as peer:
        for start in range(0, len(raw), split):
            peer.writer.write(raw[start : start + split])
            await served.until(lambda _: True)
        said = await peer.rest()
    assert said.count(b"HTTP/1.1 ") == 1
    assert said.startswith(b"HTTP/1.1 400 ")
    assert served.requests == []


GOOD = {
    "GET": GET,
    "empty body": POST + b"Content-Length: 0\r\n\r\n",
    "body": POST + b"Content-Length: 5\r\n\r\nhello",
    "chunks": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    "chunks in capitals": POST + b"TRANSFER-ENCODING: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunk extension": POST + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
    "empty values": b"GET / HTTP/1.1\r\nA:\r\nHost: a.example\r\nB: \r\n\r\n",
    "obs-text": POST + b"X: \xe9\xff\tz\r\nContent-Length: 0\r\n\r\n",
    "Upgrade with an empty body": POST
    + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n",
    "empty line before": b"\r\n" + GET,
    "HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
}


@pytest.mark.parametrize("raw", GOOD.values(), ids=GOOD.keys())
async def test_valid_requests_are_served(raw: bytes) -> None:
    async with serving() as served, await served.send(raw) as peer:
        status, said = await peer.answer()
    assert status == 200
    assert said in {b"0", b"5"}


async def test_trailers_never_become_headers() -> None:
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        seen.extend(scope["headers"])
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    raw = (
        POST
        + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nAuthorization: Bearer x\r\n"
        + b"Mcp-Session-Id: s\r\n\r\n"
    )
    async with serving(app) as served, await served.send(raw) as peer:
        assert await peer.answer() == (200, b"")
    assert seen == [(b"host", b"a.example"), (b"transfer-encoding", b"chunked")]


async def test_white_space_around_a_value_is_not_part_of_it() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(scope["headers"])
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    raw = b"GET / HTTP/1.1\r\nHost: a.example\r\nX: \t a b \t \r\n\r\n"
    async with serving(app) as served, await served.send(raw) as peer:
        assert await peer.answer() == (200, b"")
    assert seen[1] == (b"x", b"a b")


async def test_an_ambiguous_request_behind_a_valid_one_leaves_that_one_its_response() -> None:
    async with serving() as served:
        said = await served.says(GET + REFUSED["CL and TE"])
    assert said.count(b"HTTP/1.1 ") == 1
    assert said.startswith(b"HTTP/1.1 200 ")
    assert [path for _, path, _ in served.requests] == ["/healthz"]


@pytest.mark.parametrize(
    "last",
    [
        b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
    ],
    ids=["close", "upgrade", "HTTP/1.0"],
)
async def test_nothing_is_served_after_a_request_that_is_the_last(last: bytes) -> None:
    async with serving() as served:
        said = await served.says(last + HIDDEN)
    assert said.startswith(b"HTTP/1.1 200 ")
    assert [path for _, path, _ in served.requests] == ["/"]


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving() as served, await served.connect() as peer:
        paths = [f"/{number}" for number in range(10)]
        await peer.send(b"".join(GET.replace(b"/healthz", path.encode()) for path in paths))
        for _ in paths:
            assert await peer.answer() == (200, b"0")
    assert [path for _, path, _ in served.requests] == paths


async def test_pipelined_requests_are_bounded() -> None:
    async with serving() as served:
        said = await served.says(GET * 1000)
        assert served.connections.counts.dropped["pipelined"] == 1
    assert 1 <= said.count(b"HTTP/1.1 200 ") <= 18
    assert said.count(b"HTTP/1.1 ") == said.count(b"HTTP/1.1 200 ")


async def test_a_client_that_disconnects_is_reported_to_the_running_request() -> None:
    told: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        told.append((await receive())["type"])

    async with serving(app) as served:
        async with await served.send(GET + GET) as peer:
            await peer.head()
        await served.until(lambda served: len(served.connections) == 0 and told)
    assert told == ["http.disconnect"]
