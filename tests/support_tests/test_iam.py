"""The evaluator of policies, against AWS's documentation."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.iam import UnsupportedPolicyError, allows

ALPHA = "arn:aws:s3:::alpha"
ANY_KEY = ALPHA + "/*"
NOON = 1_800_000_000.0
AT_NOON = "2027-01-15T08:00:00Z"


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def statement(action: object, resource: object, **more: object) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def asked(text: str, action: str, resource: str, now: float = 0.0) -> bool:
    return allows(text, action=action, resource=resource, now=now)


@pytest.mark.parametrize(
    ("action", "resource", "allowed"),
    [
        ("s3:GetObject", ALPHA + "/key", True),
        ("S3:getobject", ALPHA + "/key", True),
        ("s3:GetObject", ALPHA + "/a/b\nc", True),
        ("s3:GetObject", ALPHA, False),
        ("s3:GetObject", ALPHA + "-other/key", False),
        ("s3:GetObject", "arn:aws:s3:::ALPHA/key", False),
        ("s3:PutObject", ALPHA + "/key", False),
        ("s3:GetObjectVersion", ALPHA + "/key", False),
    ],
)
def test_a_named_action_on_a_named_resource_is_allowed(
    action: str, resource: str, allowed: bool
) -> None:
    assert asked(policy(statement("s3:GetObject", ANY_KEY)), action, resource) is allowed


def test_nothing_is_allowed_without_a_statement() -> None:
    assert not asked(policy(), "s3:GetObject", ANY_KEY)


def test_a_denial_wins() -> None:
    denied = {"Effect": "Deny", "Action": "s3:*", "Resource": ALPHA + "/secret/*"}
    text = policy(statement("s3:GetObject", ANY_KEY), denied)
    assert asked(text, "s3:GetObject", ALPHA + "/open/key")
    assert not asked(text, "s3:GetObject", ALPHA + "/secret/key")


def test_wildcards() -> None:
    text = policy(statement(["s3:Get*", "s3:?utObject"], ["arn:aws:s3:::al?ha/*"]))
    assert asked(text, "s3:GetAnything", "arn:aws:s3:::alpha/x")
    assert asked(text, "s3:PutObject", "arn:aws:s3:::albha/x")
    assert not asked(text, "s3:PutObject", "arn:aws:s3:::alha/x")
    assert not asked(text, "s3:ListBucket", ALPHA)
    # The wider reading: over colons, too.
    assert asked(policy(statement("*", "arn:*:s3:::x")), "s3:A", "arn:aws:s3:::b/:s3:::x")


@pytest.mark.parametrize(
    ("operator", "before", "at"),
    [
        ("DateLessThan", True, False),
        ("DateLessThanEquals", True, True),
        ("DateGreaterThan", False, False),
        ("DateGreaterThanEquals", False, True),
    ],
)
def test_dates(operator: str, before: bool, at: bool) -> None:
    condition = {operator: {"aws:CurrentTime": AT_NOON}}
    text = policy(statement("s3:GetObject", ANY_KEY, Condition=condition))
    assert asked(text, "s3:GetObject", ALPHA + "/k", NOON - 0.5) is before
    assert asked(text, "s3:GetObject", ALPHA + "/k", NOON) is at


def test_every_condition_has_to_hold() -> None:
    condition = {
        "DateGreaterThan": {"aws:CurrentTime": AT_NOON},
        "DateLessThan": {"aws:CurrentTime": AT_NOON},
    }
    text = policy(statement("s3:GetObject", ANY_KEY, Condition=condition))
    for now in (NOON - 1, NOON, NOON + 1):
        assert not asked(text, "s3:GetObject", ALPHA + "/k", now)


@pytest.mark.parametrize(
    "unknown",
    [
        statement("s3:GetObject", "arn:aws:s3:::${aws:username}/*"),
        statement("s3:GetObject", ANY_KEY, Condition={"Bool": {"aws:SecureTransport": "true"}}),
        statement(
            "s3:GetObject", ANY_KEY, Condition={"DateNotEquals": {"aws:CurrentTime": AT_NOON}}
        ),
        statement("s3:GetObject", ANY_KEY, NotAction="s3:PutObject"),
        {"Effect": "Maybe", "Action": "*", "Resource": "*"},
    ],
)
def test_an_unknown_part_of_a_policy_is_an_error(unknown: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedPolicyError):
        asked(policy(unknown), "s3:GetObject", ALPHA + "/k")
