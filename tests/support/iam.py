"""What AWS documents that a session policy allows. Written from there, not from our generator.

IAM User Guide, "Policy evaluation logic" (an explicit Deny wins, nothing is allowed without an
Allow), "IAM JSON policy elements" (Action without regard to case, Resource with it; ``*`` for any
characters and ``?`` for one) and "Condition operators" (dates). What is not written here is not
evaluated: ``UnsupportedPolicyError``, never a guess.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

VERSIONS = {None, "2008-10-17", "2012-10-17"}
ELEMENTS = {"Sid", "Effect", "Action", "Resource", "Condition"}


class UnsupportedPolicyError(Exception):
    """A policy with elements that this evaluator does not know."""


def allows(policy: str, *, action: str, resource: str, now: float) -> bool:
    """Whether a session with this policy may do it.

    Args:
        policy: the inline session policy, JSON.
        action: such as ``s3:GetObject``.
        resource: the ARN of what it is done to.
        now: ``aws:CurrentTime``, in seconds since the epoch.

    Raises:
        UnsupportedPolicyError: it cannot be evaluated here.
    """
    verdicts = {
        statement["Effect"]
        for statement in _statements(policy)
        if _applies(statement, action, resource, now)
    }
    return verdicts == {"Allow"}


def _statements(policy: str) -> list[dict[str, Any]]:
    document = json.loads(policy)
    if document.get("Version") not in VERSIONS or set(document) - {"Version", "Id", "Statement"}:
        raise UnsupportedPolicyError(sorted(document))
    found = document["Statement"]
    statements = found if isinstance(found, list) else [found]
    for statement in statements:
        if set(statement) - ELEMENTS or statement.get("Effect") not in {"Allow", "Deny"}:
            raise UnsupportedPolicyError(sorted(statement))
    return statements


def _applies(statement: Mapping[str, Any], action: str, resource: str, now: float) -> bool:
    return (
        any(_matches(it.lower(), action.lower()) for it in _listed(statement["Action"]))
        and any(_matches(it, resource) for it in _listed(statement["Resource"]))
        and _holds(statement.get("Condition", {}), now)
    )


def _listed(element: str | list[str]) -> list[str]:
    return [element] if isinstance(element, str) else element


def _matches(pattern: str, text: str) -> bool:
    """``*`` runs over anything, slashes and colons included: the wider reading, so that a policy
    that is exact under it is exact under any."""
    if "${" in pattern:
        raise UnsupportedPolicyError("a policy variable")
    glob = "".join({"*": ".*", "?": "."}.get(one, re.escape(one)) for one in pattern)
    return re.fullmatch(glob, text, re.DOTALL) is not None


def _holds(condition: Mapping[str, Mapping[str, str]], now: float) -> bool:
    """Every operator, and every key of it, has to hold."""
    return all(
        _compares(operator, key, value, now)
        for operator, keys in condition.items()
        for key, value in keys.items()
    )


def _compares(operator: str, key: str, value: str, now: float) -> bool:
    if key.lower() != "aws:currenttime" or not isinstance(value, str):
        raise UnsupportedPolicyError(f"{operator} of {key}")
    limit = datetime.fromisoformat(value).timestamp()
    match operator:
        case "DateLessThan":
            return now < limit
        case "DateLessThanEquals":
            return now <= limit
        case "DateGreaterThan":
            return now > limit
        case "DateGreaterThanEquals":
            return now >= limit
    raise UnsupportedPolicyError(operator)
