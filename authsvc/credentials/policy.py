"""Claims as an inline session policy of AWS: those buckets, those actions, until the token expires.

Pure. AWS grants a session what its role and this policy both allow, so a policy only restricts. It
names each bucket and each action in full. Nothing is escaped, and the only wildcard is the ``/*``
for a bucket's objects.
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
"""Longest inline session policy that STS accepts."""

CACHE_SIZE = 1_024
"""Policies that are cached."""

POLICY_BYTES = 16_000
"""Memory that one may take on average: twice that of a policy for 32 buckets and 24 permissions. If
they take more, fewer are cached."""

_KINDS = ((BUCKET_ACTIONS, ""), (OBJECT_ACTIONS, "/*"))
"""Actions, and the suffix of the ARNs that they apply to."""

_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_RESERVED_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """A policy in the forms that STS may get.

    Attributes:
        forms: policies of the same effect, as JSON, the plainest first and the shortest last.
        digest: SHA-256 of the first, which identifies the policy.
    """

    forms: tuple[str, ...]
    digest: bytes

    def memory_bytes(self) -> int:
        """Its size in memory: an estimate for caches."""
        return 200 + sum(map(getsizeof, self.forms))


def is_bucket(name: str) -> bool:
    """Whether a name obeys S3's rules for general purpose buckets.

    Such a name has no ``*``, ``?``, ``$``, quote, slash or colon, so that it has no special meaning
    in an ARN or in JSON.
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
        buckets: bucket names. Those against S3's rules are left out.
        permissions: actions such as ``s3:GetObject``. Those in neither table are left out.
        ends: seconds since the epoch; from then on nothing is allowed.
        partition: of the role's ARN, such as ``aws``.

    Returns:
        None where nothing is left to allow.

    Raises:
        AuthError: CREDENTIALS_REFUSED when it is longer than AWS accepts.
    """
    names = sorted(set(filter(is_bucket, buckets)))
    if left_out := {*buckets}.difference(names):
        log.warning("%d of a token's buckets have names that S3 does not permit", len(left_out))
    granted = [
        (sorted(actions.intersection(permissions)), suffix)
        for actions, suffix in _KINDS
        if actions.intersection(permissions)
    ]
    if not names or not granted:
        return None
    plain, short = [make(names, granted, ends, partition) for make in (_plain, _short)]
    forms = tuple(form for form in (plain, short) if len(form) <= MAX_POLICY_CHARACTERS)
    if not forms:
        raise AuthError(
            Reason.CREDENTIALS_REFUSED,
            f"the session policy for {len(names)} buckets has {len(short)} characters, and AWS "
            f"accepts {MAX_POLICY_CHARACTERS}: put fewer buckets or permissions in the token",
        )
    return SessionPolicy(forms, hashlib.sha256(plain.encode()).digest())


_Key = tuple[tuple[str, ...], tuple[str, ...], int, str]
"""Buckets, permissions, end and partition."""


class SessionPolicies:
    """A cache of policies by the claims that they are made of. Belongs to one event loop.

    Every request needs a policy, and making one takes a quarter of a millisecond.
    """

    def __init__(self) -> None:
        # A tuple of one: that there is no policy is cached, too.
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


_Granted = Sequence[tuple[list[str], str]]
"""Actions of one kind, and the suffix of the ARNs that they apply to."""


def _plain(names: Sequence[str], granted: _Granted, ends: int, partition: str) -> str:
    """A statement for each kind of action."""
    statements = [
        _statement(actions, _arns(names, partition, suffix), ends) for actions, suffix in granted
    ]
    return _json({"Version": "2012-10-17", "Statement": statements})


def _short(names: Sequence[str], granted: _Granted, ends: int, partition: str) -> str:
    """The same in one statement; it allows no more.

    An action on buckets matches no ARN with ``/*``, and an action on objects none without, since
    every object's ARN has a slash and no bucket's does. A policy without a version has no
    variables. A partition of ``*`` would save more, but at AWS it matches colons, too:
    ``arn:*:s3:::alpha/*`` matches the key ``:s3:::alpha/`` of any bucket.
    """
    actions = [action for some, _ in granted for action in some]
    arns = [arn for _, suffix in granted for arn in _arns(names, partition, suffix)]
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
