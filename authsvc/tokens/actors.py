"""Claim ``act`` (RFC 8693 section 4.1): who acts for the subject of a token. Pure.

An actor that cannot be read is never left out: the request would pass for one of the subject alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from authsvc.domain.resolution import MAX_ACTORS, Actor
from authsvc.tokens.claim_paths import ClaimPath, first
from authsvc.tokens.values import MAX_SUBJECT_LENGTH, MAX_TEXT_LENGTH, malformed, name_fault

SETTING = "claims.actor"


def actor_of(claims: Mapping[str, object], paths: tuple[ClaimPath, ...]) -> Actor | None:
    """The current actor, and those before it; None where the subject acts.

    Members other than ``sub``, ``iss``, ``client_id`` and ``act`` are ignored.

    Args:
        claims: the payload of a token.
        paths: where the claim may be: the first that is there.

    Raises:
        AuthError: TOKEN_MALFORMED, with the JSON Pointer of the member that is none of an actor.
    """
    path, value = first(claims, paths)
    if value is None:
        return None
    pointer = path if path.startswith("/") else "/" + path.replace("~", "~0").replace("/", "~1")
    objects = _objects(value, pointer)
    actor: Actor | None = None
    for depth in reversed(range(len(objects))):
        actor = _actor(objects[depth], pointer + "/act" * depth, actor)
    return actor


def _objects(value: object, pointer: str) -> list[dict[str, object]]:
    """The objects of a chain, the current actor's first.

    Raises:
        AuthError: TOKEN_MALFORMED for what is no object, and for too many.
    """
    found: list[dict[str, object]] = []
    while value is not None:
        if not isinstance(value, dict):
            raise malformed(pointer, "is not an object", SETTING)
        if len(found) == MAX_ACTORS:
            raise malformed(pointer, f"is nested more than {MAX_ACTORS} deep", SETTING)
        found.append(value)
        value, pointer = value.get("act"), f"{pointer}/act"
    return found


def _actor(members: Mapping[str, object], pointer: str, before: Actor | None) -> Actor:
    if members.get("sub") is None:
        raise malformed(pointer, "has no sub", SETTING)
    return Actor(
        subject=_text(members, "sub", pointer, MAX_SUBJECT_LENGTH),
        issuer=_text(members, "iss", pointer, MAX_TEXT_LENGTH),
        client_id=_text(members, "client_id", pointer, MAX_TEXT_LENGTH),
        actor=before,
    )


def _text(members: Mapping[str, object], name: str, pointer: str, most: int) -> str:
    """
    Raises:
        AuthError: TOKEN_MALFORMED for anything but a name; empty when absent.
    """
    value = members.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise malformed(f"{pointer}/{name}", "is not a string", SETTING)
    if fault := name_fault(value, most):
        raise malformed(f"{pointer}/{name}", fault, SETTING)
    return value
