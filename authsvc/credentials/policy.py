"""Claims as an inline session policy of AWS: those buckets, those actions, until the token ends.

Pure. AWS grants a session what its role and this policy both allow, so a policy only ever narrows.
It names each bucket and each action in full: nothing is escaped, and nothing stands for several but
the ``/*`` for a bucket's objects.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from sys import getsizeof

from authsvc.common.lru import LruCache, bytes_for
from authsvc.credentials.s3_actions import BUCKET_ACTIONS, OBJECT_ACTIONS
from authsvc.domain.errors import AuthError, Reason

log = logging.getLogger(__name__)

MAX_POLICY_CHARACTERS = 2048
"""Longest inline session policy that STS takes."""

CACHE_SIZE = 1_024
"""Policies that are cached."""

POLICY_BYTES = 16_000
"""What they may take in memory, on average: twice what one for 32 buckets and 24 permissions takes.
Where they take more, fewer are cached."""

_KINDS = ((BUCKET_ACTIONS, ""), (OBJECT_ACTIONS, "/*"))
"""Actions, and what makes the ARN of a bucket one that they are for."""

_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_RESERVED_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """What STS is given.

    Attributes:
        forms: policies of the same effect, as JSON, the plainest first and the shortest last.
        digest: SHA-256 of the first: what tells one policy from another.
    """

    forms: tuple[str, ...]
    digest: bytes

    def memory_bytes(self) -> int:
        """What it takes in memory: an estimate for caches."""
        return 200 + sum(map(getsizeof, self.forms))


def is_bucket(name: str) -> bool:
    """Whether a name obeys S3's rules for general purpose buckets.

    None that does has a ``*``, ``?``, ``$``, quote, slash or colon in it, so that it means itself
    wherever it is put.
    """
    return (
        _BUCKET.fullmatch(name) is not None
        and _ADDRESS.fullmatch(name) is None
        and not name.startswith(_RESERVED_PREFIXES)
        and not name.endswith(_RESERVED_SUFFIXES)
    )


def session_policy(
    buckets: tuple[str, ...], permissions: tuple[str, ...], *, ends: int, partition: str
) -> SessionPolicy | None:
    """The policy that allows ``permissions`` on ``buckets``, and nothing else.

    Args:
        buckets: bucket names. One that is against S3's rules is left out, the others count.
        permissions: actions such as ``s3:GetObject``. One that is in neither table is left out.
        ends: seconds since the epoch, from when on nothing is allowed any more.
        partition: of the role's ARN, such as ``aws``.

    Returns:
        None where nothing is left to allow.

    Raises:
        AuthError: CREDENTIALS_REFUSED when it is longer than AWS takes.
    """
    names = sorted(set(filter(is_bucket, buckets)))
    if left_out := {*buckets}.difference(names):
        log.warning("%d of a token's buckets have no name that S3 takes", len(left_out))
    asked = [
        (sorted(actions.intersection(permissions)), suffix)
        for actions, suffix in _KINDS
        if actions.intersection(permissions)
    ]
    if not names or not asked:
        return None
    plain, short = [make(names, asked, ends, partition) for make in (_plain, _short)]
    forms = tuple(form for form in (plain, short) if len(form) <= MAX_POLICY_CHARACTERS)
    if not forms:
        raise AuthError(
            Reason.CREDENTIALS_REFUSED,
            f"the session policy for {len(names)} buckets has {len(short)} characters, and AWS "
            f"takes {MAX_POLICY_CHARACTERS}: fewer buckets or permissions in the token would do",
        )
    return SessionPolicy(forms, hashlib.sha256(plain.encode()).digest())


_Key = tuple[tuple[str, ...], tuple[str, ...], int, str]
"""What a policy is made of: buckets, permissions, its end, the partition."""


class SessionPolicies:
    """The policies used last, by the claims that they are made of. Belongs to one event loop.

    Every request asks, and making one takes a quarter of a millisecond.
    """

    def __init__(self) -> None:
        # A tuple of one, since no policy is an answer as well.
        self._made: LruCache[_Key, tuple[SessionPolicy | None]] = LruCache(
            CACHE_SIZE, bytes_for(CACHE_SIZE, POLICY_BYTES)
        )

    def of(
        self, buckets: tuple[str, ...], permissions: tuple[str, ...], *, ends: int, partition: str
    ) -> SessionPolicy | None:
        """As ``session_policy``."""
        key = (buckets, permissions, ends, partition)
        made = self._made.get(key)
        if made is None:
            made = (session_policy(buckets, permissions, ends=ends, partition=partition),)
            self._made.put(key, made, _memory_bytes(key, made[0]))
        return made[0]

    def __len__(self) -> int:
        return len(self._made)


def _memory_bytes(key: _Key, policy: SessionPolicy | None) -> int:
    buckets, permissions, _, _ = key
    names = sum(getsizeof(names) + sum(map(getsizeof, names)) for names in (buckets, permissions))
    return 200 + names + (policy.memory_bytes() if policy is not None else 0)


_Asked = Sequence[tuple[list[str], str]]
"""Actions of one kind, and what makes the ARN of a bucket one that they are for."""


def _plain(names: Sequence[str], asked: _Asked, ends: int, partition: str) -> str:
    """A statement for each kind of action."""
    statements = [
        _statement(actions, _arns(names, partition, suffix), ends) for actions, suffix in asked
    ]
    return _json({"Version": "2012-10-17", "Statement": statements})


def _short(names: Sequence[str], asked: _Asked, ends: int, partition: str) -> str:
    """The same in one statement, and no wider.

    An action on buckets finds none under an ARN with ``/*``, nor one on objects any without, since
    there is a slash in every object's ARN and in no bucket's. A policy without a version is one
    without variables. A partition of ``*`` would save more, but AWS lets it run on over colons:
    ``arn:*:s3:::alpha/*`` takes in the key ``:s3:::alpha/`` of any bucket.
    """
    actions = [action for some, _ in asked for action in some]
    arns = [arn for _, suffix in asked for arn in _arns(names, partition, suffix)]
    return _json({"Statement": [_statement(actions, arns, ends)]})


def _statement(actions: list[str], arns: list[str], ends: int) -> dict[str, object]:
    end = datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "Effect": "Allow",
        "Action": actions,
        "Resource": arns,
        "Condition": {"DateLessThan": {"aws:CurrentTime": end}},
    }


def _arns(names: Sequence[str], partition: str, suffix: str) -> list[str]:
    return [f"arn:{partition}:s3:::{name}{suffix}" for name in names]


def _json(policy: Mapping[str, object]) -> str:
    return json.dumps(policy, separators=(",", ":"))
