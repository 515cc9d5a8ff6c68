"""Targets of revocations are the same after a round trip through messages."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.revocation_target import (
    EveryoneTarget,
    ProviderSessionTarget,
    RevocationTarget,
    SessionTarget,
    SubjectTarget,
    TokenTarget,
)
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire.revocation import revocation_message, target_of

TARGETS: list[RevocationTarget] = [
    SessionTarget("s1"),
    SubjectTarget("idp", "alice"),
    SubjectTarget("idp", "alice", 1.5),
    TokenTarget("idp", "j1"),
    ProviderSessionTarget("idp", "sid"),
    ProviderSessionTarget("idp", "sid", "alice"),
    EveryoneTarget(),
    EveryoneTarget(0.0),
]


@pytest.mark.parametrize("target", TARGETS, ids=repr)
def test_a_target_passes_unchanged(target: RevocationTarget) -> None:
    message = revocation_message(target, allow_unknown_issuer=True)
    encoded = pb.RevokeSessionsRequest.FromString(message.SerializeToString())
    assert target_of(encoded) == target
    assert encoded.allow_unknown_issuer


@pytest.mark.parametrize(
    "target",
    [SessionTarget("s1"), TokenTarget("idp", "j1"), ProviderSessionTarget("idp", "sid")],
    ids=repr,
)
def test_a_session_and_a_token_have_no_before_time(target: RevocationTarget) -> None:
    message = revocation_message(target)
    message.before_time.CopyFrom(Timestamp(seconds=1))
    assert _reason(message) is Reason.ARGUMENT_INVALID


def test_a_digest_is_of_events_alone() -> None:
    message = revocation_message(ProviderSessionTarget("idp", "sid"))
    message.provider_session.digest = "digest"
    assert _reason(message) is Reason.ARGUMENT_INVALID


def test_a_target_is_required_and_its_time_is_a_time() -> None:
    assert _reason(pb.RevokeSessionsRequest()) is Reason.ARGUMENT_INVALID
    message = revocation_message(EveryoneTarget(1.0))
    message.before_time.nanos = 1_000_000_000
    assert _reason(message) is Reason.ARGUMENT_INVALID


def _reason(message: pb.RevokeSessionsRequest) -> Reason:
    with pytest.raises(AuthError) as caught:
        target_of(message)
    return caught.value.reason
