"""The names of a principal at AWS: in CloudTrail, and in conditions of policies. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Principal

TAGS = frozenset({"issuer", "subject", "client_id", "actor", "actor_issuer"})
"""The keys of ``session_tags``."""

Claim = Callable[[Mapping[str, Any]], object]
"""A claim of all; None where it is missing."""

_UNSAFE = re.compile(r"[^A-Za-z0-9_+=,.@-]")
_TAG_VALUE = re.compile(r"[\w .:/=+\-@]{1,256}")

_READABLE = 47
"""Characters of the subject in a session's name; with ``-`` and 16 of a digest they make 64."""


def session_name(principal: Principal) -> str:
    """A ``RoleSessionName`` and ``SourceIdentity``: at most 64 of ``[A-Za-z0-9_+=,.@-]``.

    It begins with the permitted characters of the subject, and ends with 80 bits of a digest of
    issuer and subject. Every name has the digest: otherwise one subject could equal the name that
    is made of another.
    """
    whole = f"{len(principal.issuer)}:{principal.issuer}{principal.subject}"
    digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).digest()
    suffix = base64.b32encode(digest[:10]).decode().lower()
    return f"{_UNSAFE.sub('-', principal.subject)[:_READABLE]}-{suffix}"


def session_tags(principal: Principal) -> list[tuple[str, str]]:
    """Keys and values: ``issuer``, ``subject`` and ``client_id``, and of the current actor, if any,
    ``actor`` and ``actor_issuer``; each unchanged or omitted.

    A value that AWS does not accept is omitted, not altered: a role's policy that compares tags
    could otherwise confuse two principals.
    """
    tags = {
        "issuer": principal.issuer,
        "subject": principal.subject,
        "client_id": principal.client_id,
    }
    if (actor := principal.actor) is not None:
        tags |= {"actor": actor.subject, "actor_issuer": actor.issuer or principal.issuer}
    return [(key, value) for key, value in tags.items() if _TAG_VALUE.fullmatch(value)]


def claim_tags(principal: Principal, claims: Mapping[str, Claim]) -> list[tuple[str, str]]:
    """Keys and values of the tags that policies of a role compare.

    A session tag has one value (IAM User Guide, "Pass session tags in AWS STS"): a claim is a
    string, or a list of one.

    Args:
        principal: its claims are the values.
        claims: where each is, by the key of its tag.

    Raises:
        AuthError: CREDENTIALS_REFUSED where a claim is missing, empty or no value of a tag. Without
            its tag a session could get what a policy denies to those that have it.
    """
    tags = []
    for key, claim in claims.items():
        value = claim(principal.claims)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, str) or not _TAG_VALUE.fullmatch(value):
            raise AuthError(
                Reason.CREDENTIALS_REFUSED,
                f"the claim for tag {key!r} is missing, or no value of a tag: one string of 1 to "
                "256 letters, digits, spaces and _.:/=+-@",
                setting="credentials.sts.claim_tags",
            )
        tags.append((key, value))
    return tags
