"""Pages parsed in slices hold what botocore reads in them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pytest
from botocore.parsers import ResponseParser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authsvc.common.aws_isolation import isolated_session
from mcp_adapter.tools import pages
from mcp_adapter.tools.listing import bucket_objects_list
from mcp_adapter.tools.s3 import S3Clients
from mcp_adapter.tools.slices import Slices
from tests.mcp_adapter.tools.calls import answer, call_of

pytestmark = pytest.mark.anyio

NAMESPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
TIME = "2026-01-01T12:34:56.000Z"


def document(contents: str, namespace: str = NAMESPACE, more: str = "") -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult{namespace}><Name>alpha</Name>'
        f"<IsTruncated>true</IsTruncated>{contents}<MaxKeys>250</MaxKeys>"
        "<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes>"
        f"<NextContinuationToken>next &amp;&#13; more</NextContinuationToken>{more}"
        "</ListBucketResult>"
    ).encode()


def item(key: str, size: str = "1", when: str = TIME, more: str = "") -> str:
    return (
        f"<Contents><Key>{escape(key)}</Key><LastModified>{when}</LastModified>"
        f"<ETag>&quot;e&quot;</ETag><Size>{size}</Size>{more}</Contents>"
    )


@pytest.fixture
async def parsers() -> tuple[ResponseParser, Any]:
    """Botocore's own parser, and the shape of a listing."""
    session = isolated_session()
    model = await session.get_service_model("s3")
    factory = session.get_component("response_parser_factory")
    return factory.create_parser("rest-xml"), model.operation_model("ListObjectsV2").output_shape


async def in_slices(response: dict[str, Any]) -> dict[str, Any]:
    customized: dict[str, Any] = {}
    await pages._parse(Slices(), response, customized, event_name="")
    return customized


def response_of(body: bytes) -> dict[str, Any]:
    return {"body": body, "headers": {}, "status_code": 200}


KEYS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40)
MEMBERS = st.lists(
    st.sampled_from(
        [
            "<StorageClass>GLACIER</StorageClass>",
            "<Owner><ID>x</ID><DisplayName/></Owner>",
            "<RestoreStatus><IsRestoreInProgress>true</IsRestoreInProgress></RestoreStatus>",
            f"<RestoreStatus><RestoreExpiryDate>{TIME}</RestoreExpiryDate></RestoreStatus>",
            "<ChecksumType>FULL_OBJECT</ChecksumType>",
            "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm>",
            "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumAlgorithm>SHA1</ChecksumAlgorithm>",
            "<Unknown><ID>x</ID></Unknown>",
        ]
    ),
    max_size=3,
    unique_by=lambda member: member.split(">")[0],
).map("".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    found=st.lists(st.tuples(KEYS, st.integers(0, 2**63), MEMBERS), max_size=5),
    namespace=st.sampled_from(["", NAMESPACE]),
    chunk_bytes=st.integers(1, 400),
)
async def test_a_page_is_what_botocore_reads(
    parsers: tuple[ResponseParser, Any],
    monkeypatch: pytest.MonkeyPatch,
    found: list[tuple[str, int, str]],
    namespace: str,
    chunk_bytes: int,
) -> None:
    monkeypatch.setattr(pages, "CHUNK_BYTES", chunk_bytes)
    parser, shape = parsers
    contents = "".join(item(quote_plus(key), str(size), TIME, more) for key, size, more in found)
    response = response_of(document(contents, namespace))
    expected = await parser.parse(response, shape)

    customized = await in_slices(response)

    assert b"Contents>" not in response["body"]
    assert await parser.parse(response, shape) | customized == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<",
        document(item("a"))[:-20],
        document(item("a")) + b"<",
        document(item("a", size="many")),
        document(item("a", when="never")),
        document(item("a", when="1e300")),
        document(item("a"), more="<a>" * 2000 + "</a>" * 2000),
        b"<Error><Code>SlowDown</Code><Message>Contents</Message></Error>",
        f"<Error><Code>SlowDown</Code>{item('a')}</Error>".encode(),
        document(""),
    ],
)
async def test_anything_else_is_left_to_botocore(body: bytes) -> None:
    response = response_of(body)
    assert await in_slices(response) == {}
    assert response == response_of(body)


async def test_botocore_parses_no_page(
    clients: S3Clients, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where it looks for an error in a 200, nor where it reads the answer."""
    bodies: list[bytes] = []

    def parsed(status_code: int, body: bytes) -> bool:
        bodies.append(body)
        return False

    monkeypatch.setattr("botocore.handlers._looks_like_special_case_error", parsed)
    listed = await answer(bucket_objects_list, call_of(clients), bucket="alpha", max_keys=250)
    assert [entry["key"] for entry in listed["objects"]] == keys[:250]
    assert len(bodies) == 1
    assert b"<Contents" not in bodies[0]
    assert b"Contents>" not in bodies[0]
