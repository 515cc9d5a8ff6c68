"""What a request may ask for, and what it may not."""

from __future__ import annotations

from typing import Any

import pytest

from authsvc.domain.credential_requests import (
    MAX_BUCKETS,
    MAX_REQUESTS,
    CredentialRequest,
    check_selection,
)


@pytest.mark.parametrize(
    ("fields", "error", "fault"),
    [
        ({"name": None}, TypeError, "name is a str, not NoneType"),
        ({"buckets": "alpha"}, TypeError, "buckets is a tuple, not str"),
        ({"buckets": (b"alpha",)}, TypeError, "a bucket is a str, not bytes"),
        ({"rejected": "digest"}, TypeError, "rejected is a bytes, not str"),
        ({"name": "a/b"}, ValueError, "name is 1 to 64"),
        ({"name": "é"}, ValueError, "name is 1 to 64"),
        ({"buckets": ("b",) * (MAX_BUCKETS + 1)}, ValueError, "buckets are 64 at most"),
        ({"buckets": ("",)}, ValueError, "1 to 255 characters"),
        ({"rejected": bytes(31)}, ValueError, "rejected is a SHA-256 digest"),
    ],
)
def test_a_fault_is_named(fields: dict[str, Any], error: type[Exception], fault: str) -> None:
    with pytest.raises(error, match=fault):
        CredentialRequest(**fields)


def test_a_selection_has_each_name_once_and_not_too_many() -> None:
    most = [CredentialRequest(f"n{number}") for number in range(MAX_REQUESTS)]
    assert check_selection(most) == tuple(most)
    assert check_selection([]) == ()
    with pytest.raises(ValueError, match="16 at most"):
        check_selection([*most, CredentialRequest()])
    with pytest.raises(ValueError, match="asked for twice"):
        check_selection([most[0], CredentialRequest("n0", ("b",))])
    with pytest.raises(TypeError, match="CredentialRequest, not str"):
        check_selection("api")  # type: ignore[arg-type]  # a caller's mistake
