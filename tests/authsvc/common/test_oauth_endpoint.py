"""What is read of an endpoint's failures."""

from __future__ import annotations

import pytest

from authsvc.common.oauth_endpoint import MAX_RETRY_AFTER_SECONDS, retry_after
from authsvc.common.oauth_errors import described, error_code

NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error":"invalid_client"}', "invalid_client"),
        (b'{"error":"invalid_grant","error_description":"the.secret.token"}', "invalid_grant"),
        (b'{"error":"not.registered-1"}', "not.registered-1"),
        (b"", ""),
        (b"<html>", ""),
        (b"\xff", ""),
        (b"[" * 100_000, ""),
        (b"[]", ""),
        (b"{}", ""),
        (b'{"error":null}', ""),
        (b'{"error":{"code":"x"}}', ""),
        (b'{"error":"two words"}', ""),
        (b'{"error":"line\\nbreak"}', ""),
        (b'{"error":"\\u001b[31m"}', ""),
        (b'{"error":"' + b"a" * 65 + b'"}', ""),
        (b'{"error":"1st"}', ""),
        (b'{"error":"the.secret.token"}', ""),
        (b'{"error":"secret"}', ""),
        (b'{"error":"unknown_the.secret.token"}', ""),
        (b'{"error":"another"}', "another"),
    ],
)
def test_the_error_code(body: bytes, code: str) -> None:
    assert error_code(body, ["the.secret.token", "other"]) == code


def test_how_a_failure_is_described() -> None:
    assert described(401, "invalid_client") == "401 (invalid_client)"
    assert described(500, "") == "500"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5.0),
        ("0", 1.0),
        ("86400", MAX_RETRY_AFTER_SECONDS),
        ("9" * 400, MAX_RETRY_AFTER_SECONDS),
        ("Fri, 15 Jan 2027 08:00:07 GMT", 7.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 1.0),
        ("Fri, 15 Jan 2027 08:00:07 -0000", 7.0),
        ("Fri, 15 Jan 2099 08:00:00 GMT", MAX_RETRY_AFTER_SECONDS),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("²", None),
        ("Fri, 99 Jan 2027 08:00:00 GMT", None),
        ("Fri, 15 Jan 99999999999999999999 08:00:00 GMT", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds
