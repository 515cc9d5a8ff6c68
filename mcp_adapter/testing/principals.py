"""Principals of tests, from a subject and a few words."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from authsvc.common import arguments
from authsvc.domain.resolution import Actor, AwsCredentials, BearerCredentials, Principal

ISSUER = "https://idp.example"
"""Issuer of the tokens of callers that are named by their subject alone."""

LIFETIME_SECONDS = 3600.0
"""How long their tokens are valid."""


def lists_of(
    scopes: Iterable[str],
    roles: Iterable[str],
    buckets: Iterable[str],
    permissions: Iterable[str],
) -> dict[str, tuple[str, ...]]:
    """What a token lists, by the names of a ``Principal``'s fields.

    Raises:
        TypeError: one of them is one string, no collection, or holds something else.
        ValueError: no token could hold one of the scopes, or a string is empty.
    """
    return {
        "scopes": arguments.scopes("scopes", scopes),
        "roles": arguments.texts("roles", roles),
        "buckets": arguments.texts("buckets", buckets),
        "permissions": arguments.texts("permissions", permissions),
    }


def principal_of(
    who: object, lists: Mapping[str, tuple[str, ...]], actor: object = None
) -> Principal:
    """``who`` as it is, or the caller with that subject, those lists and that actor.

    Raises:
        TypeError: an argument is of another type.
        ValueError: there are lists or an actor in both, or the subject is empty.
    """
    acting = actor_of(actor)
    if isinstance(who, str):
        if not who:
            raise ValueError("who is a Principal or a subject, which is not empty")
        ends = time.time() + LIFETIME_SECONDS
        return Principal(
            ISSUER,
            who,
            expire_time=ends,
            scopes=lists["scopes"],
            roles=lists["roles"],
            buckets=lists["buckets"],
            permissions=lists["permissions"],
            actor=acting,
        )
    if not isinstance(who, Principal):
        raise TypeError(f"who is a Principal or a subject, not {type(who).__name__}")
    for name, given in lists.items():
        if given:
            raise ValueError(f"{name}: a Principal has its own, so give them there")
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
