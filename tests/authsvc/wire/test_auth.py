"""Values are the same after a round trip through messages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.rates import MAX_COUNTED, CallCounts, Rate, RateLimit, RatePer
from authsvc.domain.resolution import (
    Actor,
    AwsCredentials,
    BearerCredentials,
    Credentials,
    Outcome,
    Principal,
    Resolution,
    Secret,
    Session,
    SessionState,
)
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire import auth as wire
from authsvc.wire import errors as error_wire
from authsvc.wire import principals

PRINCIPAL = Principal(
    issuer="https://idp.example",
    subject="alice",
    expire_time=1_800_000_600.25,
    client_id="client",
    scopes=("a", "b"),
    roles=("reader",),
    buckets=("x", "y"),
    permissions=("s3:GetObject",),
    claims_json=b'{"sub":"alice"}',
    actor=Actor("agent", "https://agents.example", "app", Actor("first")),
)
SESSION = Session("id", SessionState.AUTHENTICATED, 7, 1_800_000_000.5, 1_800_086_400.5)
AWS = AwsCredentials("AKIA", Secret("hush"), Secret("token"), "eu-central-1", 1_800_000_600.0)
BEARER = BearerCredentials(Secret("hush"), "Bearer", 1_800_000_600.0)


@pytest.mark.parametrize("credentials", [AWS, BEARER, None])
def test_resolutions_round_trip(credentials: Credentials | None) -> None:
    resolution = Resolution(SESSION, Outcome.REAUTHENTICATED, PRINCIPAL, credentials)
    sent = wire.response_message(resolution).SerializeToString()
    assert wire.resolution_of(pb.ResolveSessionResponse.FromString(sent)) == resolution


CHAINS = st.recursive(
    st.builds(Actor, st.text(), st.text(), st.text()),
    lambda before: st.builds(Actor, st.text(), st.text(), st.text(), before),
    max_leaves=8,
)


@given(st.none() | CHAINS)
def test_actors_round_trip(actor: Actor | None) -> None:
    resolution = Resolution(SESSION, Outcome.REUSED, replace(PRINCIPAL, actor=actor))
    sent = wire.response_message(resolution).SerializeToString()
    assert wire.resolution_of(pb.ResolveSessionResponse.FromString(sent)) == resolution
    created = wire.created_message(resolution).SerializeToString()
    received = wire.resolution_of(pb.CreateSessionResponse.FromString(created))
    assert received.principal == resolution.principal


def test_an_empty_resolution_round_trips() -> None:
    assert wire.resolution_of(wire.response_message(Resolution())) == Resolution()


@given(st.floats(min_value=0, max_value=4_102_444_800))
def test_times_round_trip_to_the_microsecond(seconds: float) -> None:
    assert principals.seconds(principals.timestamp(seconds)) == pytest.approx(seconds, abs=1e-6)


def test_a_time_just_below_a_second_keeps_its_second() -> None:
    assert principals.seconds(principals.timestamp(1_800_000_000.9999999)) == 1_800_000_001.0


@pytest.mark.parametrize("reason", Reason)
def test_errors_round_trip(reason: Reason) -> None:
    sent = error_wire.rpc_status_of(AuthError(reason, "for the log alone")).SerializeToString()
    assert b"for the log alone" not in sent
    received = error_wire.error_of(status_pb2.Status.FromString(sent))
    assert received is not None
    assert received.reason is reason
    retryable = reason.status in {"UNAVAILABLE", "ABORTED", "RESOURCE_EXHAUSTED"}
    assert received.retry_after_seconds == (1.0 if retryable else None)


def test_errors_of_other_services_are_not_read_as_ours() -> None:
    status = status_pb2.Status()
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="TOKEN_EXPIRED", domain="other"))
    assert error_wire.error_of(status) is None


def test_a_state_that_this_version_does_not_know_is_unauthenticated() -> None:
    message = pb.ResolveSessionResponse()
    message.session.ParseFromString(pb.Session(id="x").SerializeToString() + b"\x10\x63")
    session = wire.resolution_of(message).session
    assert session is not None
    assert session.state is SessionState.UNAUTHENTICATED


def test_secrets_do_not_show() -> None:
    shown = f"{AWS} {AWS!r} {BEARER} {Resolution(credentials=AWS)!r} {PRINCIPAL!r}"
    assert "hush" not in shown
    fields = ("session_token", "access_token", "token_type", "consistency_token")
    for name in fields:
        shown = shown.replace(name, "")
    assert "token" not in shown
    assert "alice" in shown
    assert "claims_json" not in shown


VALID: dict[str, Any] = {"name": "search", "calls_per_second": 1.0, "burst": 2.0, "per": 1}
LIMITS = (
    RateLimit("search", Rate(0.5, 10.0)),
    RateLimit("search", Rate(0.5, 10.0)),
    RateLimit("all", Rate(1e6, 1e9), RatePer.EVERYONE),
    RateLimit("app", Rate(1e-6, 1.0), RatePer.CLIENT),
)


def test_what_a_request_counts_as_round_trips() -> None:
    limits = wire.rate_limit_messages(LIMITS)
    request = pb.ResolveSessionRequest(rate_limits=limits, calls=3, recheck=True)
    received = pb.ResolveSessionRequest.FromString(request.SerializeToString())
    assert wire.counts_of(received) == CallCounts(LIMITS, 3, recheck=True)
    created = pb.CreateSessionRequest(rate_limits=limits)
    assert wire.counts_of(created) == CallCounts(LIMITS)
    assert wire.counts_of(pb.ResolveSessionRequest()) == CallCounts()


@pytest.mark.parametrize(
    "request_",
    [
        pb.ResolveSessionRequest(calls=MAX_COUNTED + 1),
        pb.ResolveSessionRequest(
            rate_limits=wire.rate_limit_messages([LIMITS[0]] * (MAX_COUNTED + 1))
        ),
        pb.CreateSessionRequest(rate_limits=[pb.RateLimit()]),
        *(
            pb.ResolveSessionRequest(rate_limits=[pb.RateLimit(**{**VALID, **wrong})])
            for wrong in (
                {"name": ""},
                {"name": "x" * 65},
                {"calls_per_second": 0.0},
                {"calls_per_second": float("nan")},
                {"burst": 0.0},
                {"burst": float("inf")},
                {"per": 0},
                {"per": 4},
            )
        ),
    ],
)
def test_limits_that_are_none_are_rejected(
    request_: pb.ResolveSessionRequest | pb.CreateSessionRequest,
) -> None:
    with pytest.raises(AuthError) as caught:
        wire.counts_of(request_)
    assert caught.value.reason is Reason.ARGUMENT_INVALID


def test_an_error_names_the_limit_that_is_reached() -> None:
    error = AuthError(Reason.RATE_LIMITED, "detail", retry_after_seconds=2.5, limit="search")
    status = error_wire.rpc_status_of(error)
    assert "search" in status.message
    received = error_wire.error_of(status_pb2.Status.FromString(status.SerializeToString()))
    assert received is not None
    assert (received.reason, received.limit) == (error.reason, "search")
    assert received.message == error.message
    assert received.retry_after_seconds == 2.5
