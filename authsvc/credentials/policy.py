"""Claims as an inline session policy of AWS: those buckets, those actions, until the token ends.

Pure. AWS grants a session what its role and this policy both allow, so a policy only ever narrows.
It names each bucket and each action as it stands: nothing is escaped, abbreviated or matched by a
pattern, but for the ``/*`` that stands for a bucket's objects.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from authsvc.errors import AuthError, Reason

log = logging.getLogger(__name__)

MAX_POLICY_CHARACTERS = 2048
"""Longest inline session policy that STS takes."""

BUCKET_ACTIONS = frozenset(
    f"s3:{name}"
    for name in (
        "GetAccelerateConfiguration",
        "GetAnalyticsConfiguration",
        "GetBucketAcl",
        "GetBucketCORS",
        "GetBucketLocation",
        "GetBucketLogging",
        "GetBucketNotification",
        "GetBucketObjectLockConfiguration",
        "GetBucketOwnershipControls",
        "GetBucketPolicy",
        "GetBucketPolicyStatus",
        "GetBucketPublicAccessBlock",
        "GetBucketRequestPayment",
        "GetBucketTagging",
        "GetBucketVersioning",
        "GetBucketWebsite",
        "GetEncryptionConfiguration",
        "GetIntelligentTieringConfiguration",
        "GetInventoryConfiguration",
        "GetLifecycleConfiguration",
        "GetMetricsConfiguration",
        "GetReplicationConfiguration",
        "ListBucket",
        "ListBucketMultipartUploads",
        "ListBucketVersions",
    )
)
"""Actions on a bucket. A bucket's configuration can be read, but not changed: such a change would
outlive the credentials. ``s3:ListAllMyBuckets`` is of the account, not of a bucket: it would reveal
every name, and what a principal may see is in its claims already."""

OBJECT_ACTIONS = frozenset(
    f"s3:{name}"
    for name in (
        "AbortMultipartUpload",
        "BypassGovernanceRetention",
        "DeleteObject",
        "DeleteObjectTagging",
        "DeleteObjectVersion",
        "DeleteObjectVersionTagging",
        "GetObject",
        "GetObjectAcl",
        "GetObjectAttributes",
        "GetObjectLegalHold",
        "GetObjectRetention",
        "GetObjectTagging",
        "GetObjectVersion",
        "GetObjectVersionAcl",
        "GetObjectVersionAttributes",
        "GetObjectVersionTagging",
        "ListMultipartUploadParts",
        "PutObject",
        "PutObjectAcl",
        "PutObjectLegalHold",
        "PutObjectRetention",
        "PutObjectTagging",
        "PutObjectVersionAcl",
        "PutObjectVersionTagging",
        "RestoreObject",
    )
)
"""Actions on a bucket's objects."""

_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_RESERVED_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


@dataclass(frozen=True, slots=True)
class _Statement:
    """These actions on these ARNs."""

    actions: list[str]
    resources: list[str]


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """What STS is given.

    Attributes:
        forms: policies of the same effect, as JSON, the plainest first and the shortest last.
        digest: SHA-256 of the first: what tells one policy from another.
    """

    forms: tuple[str, ...]
    digest: bytes


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


# Every request asks, for the same few answers, each a tenth of a millisecond's work.
@functools.lru_cache(maxsize=1024)
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
    if len(names) < len(buckets):
        log.warning("of %d buckets in a token, S3 would take %d", len(buckets), len(names))
    statements = _statements([f"arn:{partition}:s3:::{name}" for name in names], permissions)
    if not statements:
        return None
    plain, merged = _document(statements, ends), _document(_merged(statements), ends)
    forms = [form for form in (plain, merged) if len(form) <= MAX_POLICY_CHARACTERS]
    if not forms:
        raise AuthError(
            Reason.CREDENTIALS_REFUSED,
            f"the session policy for {len(names)} buckets has {len(merged)} characters, and AWS "
            f"takes {MAX_POLICY_CHARACTERS}: fewer buckets or permissions in the token would do",
        )
    return SessionPolicy(tuple(dict.fromkeys(forms)), hashlib.sha256(plain.encode()).digest())


def _statements(arns: Sequence[str], permissions: Sequence[str]) -> list[_Statement]:
    wanted = [
        _Statement(sorted(BUCKET_ACTIONS.intersection(permissions)), [*arns]),
        _Statement(sorted(OBJECT_ACTIONS.intersection(permissions)), [f"{arn}/*" for arn in arns]),
    ]
    return [statement for statement in wanted if statement.actions and statement.resources]


def _merged(statements: Sequence[_Statement]) -> list[_Statement]:
    """The same in one. It allows no more: an object's ARN has a slash where no bucket's has one, so
    that an action on buckets finds nothing under ``/*``, nor one on objects without."""
    return [
        _Statement(
            [action for statement in statements for action in statement.actions],
            [arn for statement in statements for arn in statement.resources],
        )
    ]


def _document(statements: Sequence[_Statement], ends: int) -> str:
    end = datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": statement.actions,
                "Resource": statement.resources,
                "Condition": {"DateLessThan": {"aws:CurrentTime": end}},
            }
            for statement in statements
        ],
    }
    return json.dumps(policy, separators=(",", ":"))
