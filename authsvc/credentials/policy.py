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

from authsvc.credentials.s3_actions import BUCKET_ACTIONS, OBJECT_ACTIONS
from authsvc.domain.errors import AuthError, Reason

log = logging.getLogger(__name__)

MAX_POLICY_CHARACTERS = 2048
"""Longest inline session policy that STS accepts."""

BUCKETS_BY = "credentials.sts.buckets_by"
"""The setting that says what confines a session to buckets."""

FEWER = (
    "put fewer buckets or permissions in the token, name the buckets of the call in the request, "
    f'or have the role confine sessions ({BUCKETS_BY} = "role")'
)
"""What mends a policy that is too large."""

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
    """

    forms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SessionGrant:
    """What a session may do. Two that are equal have one policy.

    Attributes:
        buckets: names of buckets; None where the role itself confines the session to buckets.
        permissions: actions such as ``s3:GetObject``.
        ends: seconds since the epoch; from then on nothing is allowed.
        partition: of the role's ARN, such as ``aws``.
    """

    buckets: tuple[str, ...] | None
    permissions: tuple[str, ...]
    ends: int
    partition: str

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to allow: ``policy`` is None."""
        if not any(actions.intersection(self.permissions) for actions, _ in _KINDS):
            return True
        return self.buckets is not None and not any(map(is_bucket, self.buckets))

    def digest(self) -> bytes:
        """SHA-256 that identifies it, for caches: far cheaper than its policy."""
        # The representation of a tuple of strings is that of no other, and is ASCII or encodable.
        parts = (self.buckets, self.permissions, self.ends, self.partition)
        return hashlib.sha256(repr(parts).encode()).digest()

    def policy(self) -> SessionPolicy:
        """As ``session_policy``.

        Raises:
            AuthError: as there.
            ValueError: it is empty.
        """
        made = session_policy(
            self.buckets, self.permissions, ends=self.ends, partition=self.partition
        )
        if made is None:
            raise ValueError("an empty grant has no policy")
        return made

    def log_left_out(self) -> None:
        """Log how many names of buckets S3 does not permit, if there are any."""
        left_out = sum(not is_bucket(name) for name in {*(self.buckets or ())})
        if left_out:
            log.warning("%d of a token's buckets have names that S3 does not permit", left_out)


def buckets_of_call(buckets: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The buckets of a token that credentials are wanted for, each once and sorted.

    Args:
        buckets: of the token.
        wanted: of the call, at least one.

    Raises:
        AuthError: CREDENTIALS_REFUSED where the token does not have all of them, or S3 does not
            permit a name: the credentials would not do what the call wants.
    """
    names = {*wanted}
    if others := len(names.difference(buckets)):
        raise AuthError(
            Reason.CREDENTIALS_REFUSED, f"{others} of the call's buckets are not in the token"
        )
    if not all(map(is_bucket, names)):
        raise AuthError(
            Reason.CREDENTIALS_REFUSED, "a bucket of the call has a name that S3 does not permit"
        )
    return tuple(sorted(names))


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
    buckets: tuple[str, ...] | None,
    permissions: tuple[str, ...],
    *,
    ends: int,
    partition: str,
) -> SessionPolicy | None:
    """The policy that allows ``permissions`` on ``buckets``, and nothing else.

    Args:
        buckets: bucket names. Those against S3's rules are left out. None for whatever the role
            allows: ``Resource`` is ``*``.
        permissions: actions such as ``s3:GetObject``. Those in neither table are left out.
        ends: seconds since the epoch; from then on nothing is allowed.
        partition: of the role's ARN, such as ``aws``.

    Returns:
        None where nothing is left to allow.

    Raises:
        AuthError: CREDENTIALS_REFUSED when it is longer than AWS accepts.
    """
    granted = [
        (sorted(actions.intersection(permissions)), suffix)
        for actions, suffix in _KINDS
        if actions.intersection(permissions)
    ]
    if buckets is None:
        return SessionPolicy((_anywhere(granted, ends),)) if granted else None
    names = sorted(set(filter(is_bucket, buckets)))
    if not names or not granted:
        return None
    plain, short = [make(names, granted, ends, partition) for make in (_plain, _short)]
    forms = tuple(form for form in (plain, short) if len(form) <= MAX_POLICY_CHARACTERS)
    if not forms:
        raise AuthError(
            Reason.CREDENTIALS_REFUSED,
            f"the session policy for {len(names)} buckets has {len(short)} characters, and AWS "
            f"accepts {MAX_POLICY_CHARACTERS}: {FEWER}",
            setting=BUCKETS_BY,
        )
    return SessionPolicy(forms)


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


def _anywhere(granted: _Granted, ends: int) -> str:
    """The actions, on whatever the role allows them on."""
    actions = [action for some, _ in granted for action in some]
    return _json({"Version": "2012-10-17", "Statement": [_statement(actions, "*", ends)]})


def _statement(actions: list[str], arns: list[str] | str, ends: int) -> dict[str, object]:
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
