"""Which credentials a request asks for: by name, and for which buckets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_REQUESTS = 16
"""Credentials that one request may ask for."""

MAX_BUCKETS = 64
"""Buckets that credentials may be asked for. The session policy of STS holds fewer, as a rule."""

MAX_BUCKET_LENGTH = 255
"""Longest name of a bucket, in characters: S3 gave such names until 2018."""

DIGEST_BYTES = 32
"""Size of SHA-256."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_credential_name(name: str) -> bool:
    """Whether a name may be one of credentials: 1 to 64 letters, digits, ``.``, ``_`` and ``-``,
    the first a letter or digit."""
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class CredentialRequest:
    """Credentials that a request asks for.

    Attributes:
        name: their name in authsvc's configuration; empty for those of the resource without a name.
        buckets: the buckets that they have to work for, each one of the token's; none for all of
            the token's. A session policy names these alone.
        rejected: SHA-256 of an access token that the API has rejected: it is not issued again from
            the cache. Empty where none was.

    Raises:
        TypeError: one of them is of another type.
        ValueError: one of them is out of range.
    """

    name: str = ""
    buckets: tuple[str, ...] = ()
    rejected: bytes = b""

    def __post_init__(self) -> None:
        for field, value, kind in (
            ("name", self.name, str),
            ("buckets", self.buckets, tuple),
            ("rejected", self.rejected, bytes),
        ):
            if not isinstance(value, kind):
                raise TypeError(f"{field} is a {kind.__name__}, not {type(value).__name__}")
        if self.name and not is_credential_name(self.name):
            raise ValueError("name is 1 to 64 letters, digits, '.', '_' and '-'")
        if len(self.buckets) > MAX_BUCKETS:
            raise ValueError(f"buckets are {MAX_BUCKETS} at most")
        for bucket in self.buckets:
            if not isinstance(bucket, str):
                raise TypeError(f"a bucket is a str, not {type(bucket).__name__}")
            if not 1 <= len(bucket) <= MAX_BUCKET_LENGTH:
                raise ValueError(f"a bucket's name has 1 to {MAX_BUCKET_LENGTH} characters")
        if len(self.rejected) not in (0, DIGEST_BYTES):
            raise ValueError("rejected is a SHA-256 digest")


DEFAULT = CredentialRequest()
"""The credentials of the resource, as far as the token goes."""


def check_selection(requests: Sequence[CredentialRequest]) -> tuple[CredentialRequest, ...]:
    """What one request asks for, checked.

    Raises:
        TypeError: one of them is no ``CredentialRequest``.
        ValueError: there are more than ``MAX_REQUESTS``, or two of one name.
    """
    if len(requests) > MAX_REQUESTS:
        raise ValueError(f"credentials are asked for {MAX_REQUESTS} at most")
    for it in requests:
        if not isinstance(it, CredentialRequest):
            raise TypeError(f"credentials are CredentialRequest, not {type(it).__name__}")
    if len({it.name for it in requests}) < len(requests):
        raise ValueError("credentials of one name are asked for twice")
    return tuple(requests)
