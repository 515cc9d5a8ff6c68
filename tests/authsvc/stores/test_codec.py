"""The text of records in memory."""

from __future__ import annotations

from authsvc.domain.record import Grant, Record
from authsvc.stores.codec import decode_record, encode_record
from authsvc.stores.redis.records import decode_value, encode_value
from authsvc.stores.sqlite.schema import record_of, row_of

GRANT = Grant(b"d" * 32, 1.0, 2.0, "token", "client")
RECORD = Record(
    *("session", 1, 1.0, 1.0, 2.0, "https://idp.example", "ada"),
    grants={"https://mcp.example/mcp": GRANT},
)


def test_records_share_what_the_configuration_bounds() -> None:
    """Issuers and resources take no memory for each session; what clients choose is not kept."""
    for decoded in (
        [decode_record(encode_record(RECORD)) for _ in range(2)],
        [decode_value("session", encode_value(RECORD)) for _ in range(2)],
        [record_of(tuple(row_of(RECORD))) for _ in range(2)],
    ):
        one, other = decoded
        assert one == other
        assert one.issuer is other.issuer
        assert next(iter(one.grants)) is next(iter(other.grants))
        client, same = (it.grants["https://mcp.example/mcp"].client_id for it in decoded)
        assert client is not same
