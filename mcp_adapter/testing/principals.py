"""Principals of tests, from a subject and a few words."""

from __future__ import annotations

import time
from collections.abc import Iterable

from authsvc.common import arguments
from authsvc.domain.resolution import Actor, AwsCredentials, BearerCredentials, Principal

ISSUER = "https://idp.example"
"""Issuer of the tokens of callers that are named by their subject alone."""

LIFETIME_SECONDS = 3600.0
"""How long their tokens are valid."""


def principal_of(who: object, scopes: Iterable[str], actor: object = None) -> Principal:
    """``who`` as it is, or the caller with that subject, and with that actor.

    Raises:
        TypeError: an argument is of another type.
        ValueError: there are scopes or an actor in both, or no token could hold one of them.
    """
    scopes = arguments.scopes("scopes", scopes)
    acting = actor_of(actor)
    if isinstance(who, str):
        if not who:
            raise ValueError("who is a Principal or a subject, which is not empty")
        ends = time.time() + LIFETIME_SECONDS
        return Principal(ISSUER, who, expire_time=ends, scopes=scopes, actor=acting)
    if not isinstance(who, Principal):
        raise TypeError(f"who is a Principal or a subject, not {type(who).__name__}")
    if scopes:
        raise ValueError("scopes: a Principal has its own, so give them there")
    if acting is not None:
        raise ValueError("actor: a Principal has its own, so give it there")
    return who


def actor_of(actor: object) -> Actor | None:
    """``actor`` as it is, or the one with that subject.

    Raises:
        TypeError: it is of another type.
        ValueError: its subject is empty.
    """
    if isinstance(actor, str):
        if not actor:
            raise ValueError("actor is an Actor or a subject, which is not empty")
        return Actor(actor)
    if actor is not None and not isinstance(actor, Actor):
        raise TypeError(f"actor is an Actor or a subject, not {type(actor).__name__}")
    return actor


def check_credentials(credentials: object) -> None:
    """
    Raises:
        TypeError: they are none.
    """
    if credentials is not None and not isinstance(credentials, AwsCredentials | BearerCredentials):
        raise TypeError(f"credentials are Credentials or None, not {type(credentials).__name__}")
