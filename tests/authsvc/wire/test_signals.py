"""The status of streams is the same after a round trip through messages."""

from __future__ import annotations

import pytest

from authsvc.domain.signal_status import (
    StreamChange,
    StreamEvent,
    StreamFailure,
    StreamState,
    StreamStatus,
    StreamVerification,
)
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire.signals import streams_message, streams_of

FULL = StreamStatus(
    "https://idp.example",
    True,
    StreamChange(1.5, StreamState.PAUSED, "maintenance"),
    StreamEvent(2.5, "logout", "revoked"),
    StreamFailure(3.5, "rejected"),
    StreamFailure(4.5, "unavailable"),
    5.5,
    StreamFailure(6.5, "no answer"),
    (StreamVerification(7.5, "digest"), StreamVerification(0.5)),
)


@pytest.mark.parametrize("status", [StreamStatus("https://idp.example"), FULL], ids=["new", "full"])
def test_a_status_passes_unchanged(status: StreamStatus) -> None:
    encoded = streams_message([status]).SerializeToString()
    assert streams_of(pb.ListSignalStreamsResponse.FromString(encoded)) == (status,)


def test_a_stream_that_is_not_known_to_be_enabled_is_not() -> None:
    message = streams_message([FULL])
    message.streams[0].state = pb.SignalStreamState.ValueType(9)
    assert streams_of(message)[0].state is StreamState.DISABLED
