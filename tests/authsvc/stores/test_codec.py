"""The text of records in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from authsvc.domain.provider_session import session_digest
from authsvc.domain.record import Grant, Record
from authsvc.domain.revocation import NotBefore
from authsvc.stores.codec import (
    decode_grants,
    decode_not_before,
    decode_record,
    encode_grants,
    encode_record,
)
from authsvc.stores.redis.records import decode_value, encode_value
from authsvc.stores.sqlite.schema import record_of, row_of

GRANT = Grant(b"d" * 32, 1.0, 2.0, "token", "client")
OF_SESSION = replace(GRANT, provider_session=session_digest("https://idp.example", "sid"))
RECORD = Record(
    *("session", 1, 1.0, 1.0, 2.0, "https://idp.example", "ada"),
    grants={"https://mcp.example/mcp": GRANT},
)


@pytest.mark.parametrize("grant", [GRANT, OF_SESSION], ids=["no provider session", "one"])
def test_a_record_is_read_as_it_was_written(grant: Grant) -> None:
    record = replace(RECORD, grants={"https://mcp.example/mcp": grant})
    assert decode_record(encode_record(record)) == record
    assert decode_value("session", encode_value(record)) == record
    assert record_of(row_of(record)[:-1]) == record


def test_whether_a_token_is_revoked_is_not_kept() -> None:
    marked = replace(RECORD, grants={"https://mcp.example/mcp": replace(GRANT, token_revoked=True)})
    assert encode_record(marked) == encode_record(RECORD)
    assert encode_value(marked) == encode_value(RECORD)
    assert tuple(row_of(marked)) == tuple(row_of(RECORD))


def test_what_was_written_before_provider_sessions_is_read() -> None:
    text = (
        '{"format":1,"grants":{"https://mcp.example/mcp":'
        '["ZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGQ=",1.0,2.0,"token","client"]}}'
    )
    assert decode_grants(text) == RECORD.grants
    assert encode_grants(RECORD.grants) == text
    before = '{"format":1,"time":1.0,"set_time":2.0,"issuer":"i","subject":"s","token_id":""}'
    assert decode_not_before(before) == NotBefore(1.0, 2.0, "i", "s")


def test_records_share_what_the_configuration_bounds() -> None:
    """Issuers and resources take no memory for each session; what clients choose is not kept."""
    for decoded in (
        [decode_record(encode_record(RECORD)) for _ in range(2)],
        [decode_value("session", encode_value(RECORD)) for _ in range(2)],
        [record_of(row_of(RECORD)[:-1]) for _ in range(2)],
    ):
        one, other = decoded
        assert one == other
        assert one.issuer is other.issuer
        assert next(iter(one.grants)) is next(iter(other.grants))
        client, same = (it.grants["https://mcp.example/mcp"].client_id for it in decoded)
        assert client is not same
