"""Principals of tests, from a subject and a few words."""

from __future__ import annotations

import time
from collections.abc import Iterable

from authsvc.common import arguments
from authsvc.domain.resolution import AwsCredentials, BearerCredentials, Principal

ISSUER = "https://idp.example"
"""Issuer of the tokens of callers that are named by their subject alone."""

LIFETIME_SECONDS = 3600.0
"""How long their tokens are valid."""


def principal_of(who: object, scopes: Iterable[str]) -> Principal:
    """``who`` as it is, or the caller with that subject.

    Raises:
        TypeError: an argument is of another type.
        ValueError: there are scopes in both, or no token could hold one of them.
    """
    scopes = arguments.scopes("scopes", scopes)
    if isinstance(who, str):
        if not who:
            raise ValueError("who is a Principal or a subject, which is not empty")
        return Principal(ISSUER, who, expire_time=time.time() + LIFETIME_SECONDS, scopes=scopes)
    if not isinstance(who, Principal):
        raise TypeError(f"who is a Principal or a subject, not {type(who).__name__}")
    if scopes:
        raise ValueError("scopes: a Principal has its own, so give them there")
    return who


def check_credentials(credentials: object) -> None:
    """
    Raises:
        TypeError: they are none.
    """
    if credentials is not None and not isinstance(credentials, AwsCredentials | BearerCredentials):
        raise TypeError(f"credentials are Credentials or None, not {type(credentials).__name__}")
