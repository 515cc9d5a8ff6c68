"""The tokens of the original system."""

from __future__ import annotations

import base64
import json

import pytest

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Principal
from authsvc.tokens import quilt
from authsvc.tokens.claim_paths import ClaimPath
from authsvc.tokens.claims import ClaimMapping
from authsvc.tokens.values import MAX_STRINGS

QUILT = ClaimMapping.of("quilt", subject=(ClaimPath("id"),))


def principal(**claims: object) -> Principal:
    return QUILT.principal({"iss": "i", "id": "alice", "exp": 1_800_000_600, **claims}, b"{}")


def compressed(value: object) -> dict[str, str]:
    data = base64.b64encode(json.dumps(value).encode()).decode()
    return {"_type": "compressed", "_data": data}


def test_short_names() -> None:
    who = principal(p=["g"], r=["reader"], b=["one"], s="read write", l="full")
    assert who.permissions == ("s3:GetObject",)
    assert who.roles == ("reader",)
    assert who.buckets == ("one",)
    assert who.scopes == ("read", "write")


def test_a_long_name_wins() -> None:
    who = principal(
        permissions=["s3:PutObject"],
        p=["g"],
        roles=["a"],
        r=["b"],
        buckets=["one"],
        b=["two"],
        scope="x",
        s="y",
    )
    assert who.permissions == ("s3:PutObject",)
    assert (who.roles, who.buckets, who.scopes) == (("a",), ("one",), ("x",))


def test_what_is_null_is_absent() -> None:
    assert principal(permissions=None, p=["g"]).permissions == ("s3:GetObject",)
    assert principal(permissions=None, p=None, b=None).permissions == ()


def test_the_level_is_spelt_out() -> None:
    assert quilt.expanded({"l": "full"}) == {"level": "full"}


def test_abbreviations() -> None:
    who = principal(p=["g", "p", "d", "l", "la", "gb", "gv", "pa", "amu", "unknown", "s3:Other"])
    assert who.permissions == (
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:ListBucket",
        "s3:ListAllMyBuckets",
        "s3:GetBucketLocation",
        "s3:GetObjectVersion",
        "s3:PutObjectAcl",
        "s3:AbortMultipartUpload",
        "unknown",
        "s3:Other",
    )


@pytest.mark.parametrize(
    ("packed", "buckets"),
    [
        (["one", "s3://two"], ("one", "two")),
        (
            {"_type": "groups", "_data": {"quilt": ["a", "b-c"], "team": ["x", "other-y"]}},
            ("quilt-a", "quilt-b-c", "team-x", "other-y"),
        ),
        (
            {"_type": "patterns", "_data": {"quilt": ["a", "b-c"], "team": ["x", "team-y"]}},
            ("quilt-a", "quilt-b-c", "x", "team-y"),
        ),
        (compressed(["one", "two"]), ("one", "two")),
        (compressed([]), ()),
        ({"_type": "groups", "_data": {}}, ()),
    ],
)
@pytest.mark.parametrize("name", ["b", "buckets"])
def test_packed_buckets(name: str, packed: object, buckets: tuple[str, ...]) -> None:
    assert principal(**{name: packed}).buckets == buckets


def test_a_small_token_does_not_become_large() -> None:
    most = MAX_STRINGS["buckets"]
    packed = {"_type": "groups", "_data": {"p" * 255: [f"{n:x}" for n in range(most)]}}
    assert principal(b=packed).memory_bytes() < 512 * 1024
    packed = {"_type": "groups", "_data": {"p" * 255: [f"{n:x}" for n in range(most + 1)]}}
    with pytest.raises(AuthError) as caught:
        principal(b=packed)
    assert caught.value.reason is Reason.TOKEN_TOO_LARGE


@pytest.mark.parametrize(
    "packed",
    [
        {},
        {"_type": "zipped", "_data": {}},
        {"_type": "groups"},
        {"_type": "groups", "_data": ["a"]},
        {"_type": "groups", "_data": {"quilt": "a"}},
        {"_type": "groups", "_data": {"quilt": [1]}},
        {"_type": "groups", "_data": {"p" * 256: ["a"]}},
        {"_type": "patterns", "_data": {"p" * 256: ["a"]}},
        {"_type": "patterns", "_data": 7},
        {"_type": "compressed", "_data": ["a"]},
        {"_type": "compressed", "_data": "not base64!"},
        {"_type": "compressed", "_data": base64.b64encode(b"not json").decode()},
        {"_type": "compressed", "_data": base64.b64encode(b"[" * 40_000).decode()},
        {"_type": "compressed", "_data": compressed(["one"])["_data"] + "\n"},
        compressed(["x" * 49_152]),  # more than is unpacked
        compressed({"a": 1}),
        compressed([1]),
        compressed("one"),
        "",
        7,
    ],
    ids=lambda packed: repr(packed)[:40],
)
def test_a_list_that_cannot_be_unpacked_is_malformed(packed: object) -> None:
    with pytest.raises(AuthError) as caught:
        principal(b=packed)
    assert caught.value.reason is Reason.TOKEN_MALFORMED


def test_a_map_of_too_many_names_says_so() -> None:
    packed = {"_type": "patterns", "_data": {"a": ["x"], "b": [str(n) for n in range(10_000)]}}
    with pytest.raises(AuthError, match="claim buckets has more than 1000 entries"):
        principal(b=packed)


@pytest.mark.parametrize(
    "packed",
    [
        {"_type": "groups", "_data": {f"p{n}": [str(m) for m in range(101)] for n in range(10)}},
        compressed([f"bucket-{n}" for n in range(1_001)]),
        [f"bucket-{n}" for n in range(1_001)],
    ],
    ids=["groups", "compressed", "plain"],
)
def test_too_many_buckets_are_too_large(packed: object) -> None:
    with pytest.raises(AuthError) as caught:
        principal(b=packed)
    assert caught.value.reason is Reason.TOKEN_TOO_LARGE


def test_a_packed_name_is_bounded_as_a_plain_one_is() -> None:
    for packed in (compressed(["x" * 1_025]), {"_type": "groups", "_data": {"p": ["x" * 1_023]}}):
        with pytest.raises(AuthError, match="claim buckets has a text of more than 1024") as caught:
            principal(b=packed)
        assert caught.value.reason is Reason.TOKEN_TOO_LARGE


def test_the_standard_profile_reads_no_short_names() -> None:
    claims = {"iss": "i", "sub": "alice", "exp": 1_800_000_600, "r": ["reader"], "p": ["g"]}
    who = ClaimMapping().principal(claims, b"{}")
    assert (who.roles, who.permissions) == ((), ())


def test_a_token_of_real_size() -> None:
    buckets = {"quilt": [f"bucket-{n}" for n in range(16)], "team": [f"b{n}" for n in range(16)]}
    who = principal(b={"_type": "groups", "_data": buckets}, p=[f"s3:Action{n}" for n in range(24)])
    assert (len(who.buckets), len(who.permissions)) == (32, 24)
