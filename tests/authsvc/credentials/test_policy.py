"""The session policy against the claims: nothing more, nothing less, never too long."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.credentials.policy import (
    MAX_POLICY_CHARACTERS,
    SessionGrant,
    SessionPolicy,
    buckets_of_call,
    is_bucket,
    session_policy,
)
from authsvc.credentials.s3_actions import BUCKET_ACTIONS, OBJECT_ACTIONS
from authsvc.domain.errors import AuthError, Reason
from demo.buckets import BUCKETS
from demo.layout import PERMISSIONS
from tests.support.clock import START

ENDS = int(START) + 600
END = "2027-01-15T08:10:00Z"


def policy_of(
    buckets: tuple[str, ...], permissions: tuple[str, ...], *, partition: str = "aws"
) -> SessionPolicy | None:
    return session_policy(buckets, permissions, ends=ENDS, partition=partition)


def document(buckets: tuple[str, ...], permissions: tuple[str, ...]) -> dict[str, Any]:
    policy = policy_of(buckets, permissions)
    assert policy is not None
    parsed: dict[str, Any] = json.loads(policy.forms[0])
    return parsed


def granted(form: str) -> Iterator[tuple[str, str]]:
    """Every action and resource that a policy puts together, by its text alone."""
    for statement in json.loads(form)["Statement"]:
        assert set(statement) == {"Effect", "Action", "Resource", "Condition"}
        assert statement["Effect"] == "Allow"
        assert statement["Condition"] == {"DateLessThan": {"aws:CurrentTime": END}}
        for action in statement["Action"]:
            for resource in statement["Resource"]:
                yield action, resource


def allows(form: str, action: str, arn: str) -> bool:
    return any(
        action == granted_action and fnmatchcase(arn, resource)
        for granted_action, resource in granted(form)
    )


def test_each_action_goes_with_the_kind_of_resource_that_it_is_for() -> None:
    claims = ("s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation", "s3:PutObject")
    condition = {"DateLessThan": {"aws:CurrentTime": END}}
    assert document(("beta", "alpha"), claims) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:GetBucketLocation", "s3:ListBucket"],
                "Resource": ["arn:aws:s3:::alpha", "arn:aws:s3:::beta"],
                "Condition": condition,
            },
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:PutObject"],
                "Resource": ["arn:aws:s3:::alpha/*", "arn:aws:s3:::beta/*"],
                "Condition": condition,
            },
        ],
    }


@pytest.mark.parametrize(
    ("permission", "resource"),
    [
        ("s3:ListBucket", "arn:aws:s3:::alpha"),
        ("s3:GetBucketLocation", "arn:aws:s3:::alpha"),
        ("s3:GetObject", "arn:aws:s3:::alpha/*"),
        ("s3:PutObject", "arn:aws:s3:::alpha/*"),
        ("s3:DeleteObject", "arn:aws:s3:::alpha/*"),
        ("s3:GetObjectVersion", "arn:aws:s3:::alpha/*"),
        ("s3:PutObjectAcl", "arn:aws:s3:::alpha/*"),
        ("s3:AbortMultipartUpload", "arn:aws:s3:::alpha/*"),
    ],
)
def test_the_permissions_of_real_tokens(permission: str, resource: str) -> None:
    (statement,) = document(("alpha",), (permission,))["Statement"]
    assert (statement["Action"], statement["Resource"]) == ([permission], [resource])


@pytest.mark.parametrize(
    "permissions",
    [
        (),
        ("s3:ListAllMyBuckets",),
        ("s3:*",),
        ("*",),
        ("s3:Get*",),
        ("s3:getobject",),
        ("s3:PutBucketPolicy",),
        ("iam:PassRole",),
        ("s3:GetObject ",),
        ('s3:GetObject","s3:*',),
    ],
)
def test_an_action_of_no_table_is_not_granted(permissions: tuple[str, ...]) -> None:
    assert policy_of(("alpha",), permissions) is None


def test_no_bucket_is_no_access() -> None:
    assert policy_of((), ("s3:GetObject", "s3:ListBucket")) is None


@pytest.mark.parametrize(
    "name",
    [
        "*",
        "a*",
        "alph?",
        "${aws:username}",
        "al${x}pha",
        'al"pha',
        "al'pha",
        "alpha/*",
        "alpha/",
        "../alpha",
        "arn:aws:s3:::alpha",
        "alpha:beta",
        "alpha\n",
        "alpha beta",
        "Alpha",
        "al_pha",
        "\N{CYRILLIC SMALL LETTER A}lpha",
        "alph\N{FULLWIDTH LATIN SMALL LETTER A}",
        "alpha²",
        "al",
        "a" * 64,
        "-alpha",
        "alpha-",
        ".alpha",
        "alpha.",
        "al..pha",
        "192.168.5.4",
        "xn--alpha",
        "sthree-alpha",
        "amzn-s3-demo-alpha",
        "alpha-s3alias",
        "alpha--ol-s3",
        "alpha.mrap",
        "alpha--usw2-az1--x-s3",
        "alpha--table-s3",
        "",
    ],
)
def test_a_name_that_s3_does_not_permit_is_left_out(name: str) -> None:
    assert not is_bucket(name)
    assert policy_of((name,), ("s3:GetObject",)) is None
    assert document(("alpha", name), ("s3:GetObject",)) == document(("alpha",), ("s3:GetObject",))


@pytest.mark.parametrize("name", ["abc", "a.b-c", "1bucket", "a" * 63, "192.168.5.4a", "a.1.2.3"])
def test_names_that_s3_permits(name: str) -> None:
    assert is_bucket(name)


def test_the_partition_is_that_of_the_role() -> None:
    policy = policy_of(("alpha",), ("s3:GetObject",), partition="aws-us-gov")
    assert policy is not None
    assert json.loads(policy.forms[0])["Statement"][0]["Resource"] == [
        "arn:aws-us-gov:s3:::alpha/*"
    ]


def test_order_and_repetition_in_the_claims_make_no_other_policy() -> None:
    one = policy_of(("alpha", "beta"), ("s3:GetObject", "s3:ListBucket"))
    other = policy_of(("beta", "alpha", "beta"), ("s3:ListBucket", "s3:GetObject", "s3:GetObject"))
    assert one == other


def refusal_or_policy(
    buckets: tuple[str, ...], permissions: tuple[str, ...]
) -> AuthError | SessionPolicy | None:
    try:
        return policy_of(buckets, permissions)
    except AuthError as error:
        return error


FOUR = ("s3:GetBucketLocation", "s3:GetObject", "s3:ListBucket", "s3:PutObject")


def test_a_policy_that_is_too_long_is_shortened_before_it_is_rejected() -> None:
    sizes = []
    for count in range(1, 40):
        made = refusal_or_policy(tuple(f"bucket-{number:013}" for number in range(count)), FOUR)
        sizes.append(len(made.forms) if isinstance(made, SessionPolicy) else 0)
    # Of 20 characters each: 23 as they are, 24 in short.
    assert sizes == 23 * [2] + 1 * [1] + 15 * [0]


def test_a_rejection_says_what_mends_it() -> None:
    with pytest.raises(
        AuthError, match=r"for 40 buckets has 3159 characters.* fewer buckets"
    ) as no:
        policy_of(tuple(f"bucket-{number:013}" for number in range(40)), FOUR)
    assert no.value.reason is Reason.CREDENTIALS_REFUSED


def test_the_buckets_of_a_call_are_sorted_each_once() -> None:
    assert buckets_of_call(("alpha", "beta", "gamma"), ("gamma", "alpha", "gamma")) == (
        "alpha",
        "gamma",
    )


@pytest.mark.parametrize(
    ("wanted", "detail"),
    [
        (("alpha", "other"), "1 of the call's buckets"),
        (("other", "another"), "2 of the call's buckets"),
        (("alph",), "not in the token"),
        (("Al*",), "S3 does not permit"),
        (("alpha", "Al*"), "S3 does not permit"),
    ],
)
def test_a_call_for_other_buckets_is_rejected(wanted: tuple[str, ...], detail: str) -> None:
    with pytest.raises(AuthError, match=detail) as no:
        buckets_of_call(("alpha", "Al*"), wanted)
    assert no.value.reason is Reason.CREDENTIALS_REFUSED


def test_anywhere_means_whatever_the_role_allows() -> None:
    policy = SessionGrant(None, ("s3:GetObject", "s3:*", "s3:ListBucket"), ENDS, "aws").policy()
    (form,) = policy.forms
    assert json.loads(form) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket", "s3:GetObject"],
                "Resource": "*",
                "Condition": {"DateLessThan": {"aws:CurrentTime": END}},
            }
        ],
    }


@pytest.mark.parametrize(
    ("buckets", "permissions"),
    [
        ((), FOUR),
        (("Al*", "b/c"), FOUR),
        (("alpha",), ()),
        (("alpha",), ("s3:*",)),
        (None, ("s3:*",)),
        (None, ()),
    ],
)
def test_an_empty_grant_has_no_policy(
    buckets: tuple[str, ...] | None, permissions: tuple[str, ...]
) -> None:
    grant = SessionGrant(buckets, permissions, ENDS, "aws")
    assert grant.is_empty
    assert session_policy(buckets, permissions, ends=ENDS, partition="aws") is None
    with pytest.raises(ValueError, match="empty"):
        grant.policy()


NAMES_OF_TWO = st.lists(
    st.sampled_from(["a", "b", "a', 'b", "a,b", "\ud800", "'", "\\"]), max_size=3
)


@given(NAMES_OF_TWO, NAMES_OF_TWO, NAMES_OF_TWO, NAMES_OF_TWO)
def test_two_grants_have_one_digest_only_if_they_are_equal(
    buckets: list[str], permissions: list[str], others: list[str], more: list[str]
) -> None:
    one = SessionGrant(tuple(buckets), tuple(permissions), ENDS, "aws")
    two = SessionGrant(tuple(others), tuple(more), ENDS, "aws")
    assert (one.digest() == two.digest()) is (one == two)
    for other in (
        SessionGrant(None, one.permissions, ENDS, "aws"),
        SessionGrant(one.buckets, one.permissions, ENDS + 1, "aws"),
        SessionGrant(one.buckets, one.permissions, ENDS, "aws-cn"),
    ):
        assert other.digest() != one.digest()


def test_names_that_are_left_out_are_counted_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    SessionGrant(("alpha", "Al*", "Al*", "b/c"), FOUR, ENDS, "aws").log_left_out()
    SessionGrant(("alpha",), FOUR, ENDS, "aws").log_left_out()
    SessionGrant(None, FOUR, ENDS, "aws").log_left_out()
    assert [it.message for it in caplog.records] == [
        "2 of a token's buckets have names that S3 does not permit"
    ]


def test_the_short_form() -> None:
    policy = policy_of(("alpha",), ("s3:GetObject", "s3:ListBucket"))
    assert policy is not None
    assert json.loads(policy.forms[1]) == {
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket", "s3:GetObject"],
                "Resource": ["arn:aws:s3:::alpha", "arn:aws:s3:::alpha/*"],
                "Condition": {"DateLessThan": {"aws:CurrentTime": END}},
            }
        ]
    }


def test_the_demos_32_buckets_fit() -> None:
    assert policy_of(BUCKETS, PERMISSIONS) is not None


BUCKET = st.from_regex(r"[a-z0-9][a-z0-9.-]{1,30}[a-z0-9]", fullmatch=True)
HOSTILE = st.text(st.sampled_from("ab*?${}\"'/:\\\n .-é"), max_size=8)
ACTIONS = st.sampled_from(sorted(BUCKET_ACTIONS | OBJECT_ACTIONS))
ODD = st.sampled_from(["s3:*", "*", "s3:ListAllMyBuckets", "s3:Nothing", "sts:AssumeRole", ""])


@given(
    buckets=st.lists(BUCKET | HOSTILE, max_size=40).map(tuple),
    permissions=st.lists(ACTIONS | ODD, max_size=30).map(tuple),
)
def test_generator_and_claims_agree(buckets: tuple[str, ...], permissions: tuple[str, ...]) -> None:
    policy = refusal_or_policy(buckets, permissions)
    if isinstance(policy, AuthError):
        return
    good = {name for name in buckets if is_bucket(name)}
    on_buckets = {(a, b) for a in BUCKET_ACTIONS & {*permissions} for b in good}
    on_objects = {(a, b) for a in OBJECT_ACTIONS & {*permissions} for b in good}
    if policy is None:
        assert not on_buckets
        assert not on_objects
        return
    for form in policy.forms:
        assert len(form) <= MAX_POLICY_CHARACTERS
        assert form.isascii()
        pairs = set(granted(form))
        # Nothing that the claims do not name: an action on a resource of its kind is theirs.
        for action, resource in pairs:
            bucket = resource.split(":::")[1].removesuffix("/*")
            assert bucket in good
            assert action in permissions
            assert action in BUCKET_ACTIONS | OBJECT_ACTIONS
        # Nothing left out that they do.
        named = {(action, resource.split(":::")[1]) for action, resource in pairs}
        assert on_buckets <= named
        assert {(action, f"{bucket}/*") for action, bucket in on_objects} <= named
    # The short form allows what the plain one does, on whatever there may be.
    first, last = policy.forms[0], policy.forms[-1]
    for action in {*permissions}:
        for bucket in {*[*good][:3], "other"}:
            arn = f"arn:aws:s3:::{bucket}"
            if action in BUCKET_ACTIONS:
                assert allows(first, action, arn) == allows(last, action, arn) == (bucket in good)
                continue
            # A key may itself look like an ARN.
            for key in ("a/key", *(f"x:s3:::{other}/key" for other in [*good][:3])):
                allowed = bucket in good and action in OBJECT_ACTIONS
                assert allows(first, action, f"{arn}/{key}") == allowed
                assert allows(last, action, f"{arn}/{key}") == allowed


def test_the_end_is_rounded_down_by_the_caller_and_said_in_utc() -> None:
    (statement,) = document(("alpha",), ("s3:GetObject",))["Statement"]
    assert statement["Condition"]["DateLessThan"]["aws:CurrentTime"] == END
    last = session_policy(("alpha",), ("s3:GetObject",), ends=253_402_300_799, partition="aws")
    assert last is not None
    assert "9999-12-31T23:59:59Z" in last.forms[0]
