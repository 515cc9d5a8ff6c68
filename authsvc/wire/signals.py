"""Between the status of streams of signals and its messages for operators, both ways."""

from __future__ import annotations

from collections.abc import Iterable

from authsvc.domain.signal_status import (
    StreamChange,
    StreamEvent,
    StreamFailure,
    StreamState,
    StreamStatus,
    StreamVerification,
)
from authsvc.v1 import auth_pb2 as pb
from authsvc.wire.principals import seconds, timestamp

_STATES = {state.value: state for state in StreamState}


def streams_message(streams: Iterable[StreamStatus]) -> pb.ListSignalStreamsResponse:
    """The status of all streams."""
    return pb.ListSignalStreamsResponse(streams=map(_stream_message, streams))


def streams_of(message: pb.ListSignalStreamsResponse) -> tuple[StreamStatus, ...]:
    """The inverse of ``streams_message``."""
    return tuple(map(_stream_of, message.streams))


def _stream_message(stream: StreamStatus) -> pb.SignalStream:
    change = stream.change
    return pb.SignalStream(
        issuer=stream.issuer,
        state=pb.SignalStreamState.ValueType(stream.state.value),
        state_time=timestamp(change.time) if change else None,
        state_reason=change.reason if change else "",
        polled=stream.is_polled,
        last_event=_event_message(stream.last_event),
        last_rejection=_failure_message(stream.last_rejection),
        last_failure=_failure_message(stream.last_failure),
        last_poll_time=timestamp(stream.last_poll_time) if stream.last_poll_time else None,
        poll_failure=_failure_message(stream.poll_failure),
        verifications=[
            pb.SignalStream.Verification(time=timestamp(it.time), state_digest=it.state_digest)
            for it in stream.verifications
        ],
    )


def _stream_of(message: pb.SignalStream) -> StreamStatus:
    change = None
    if message.HasField("state_time"):
        # A state of a later version is none that is known to be enabled.
        state = _STATES.get(message.state, StreamState.DISABLED)
        change = StreamChange(seconds(message.state_time), state, message.state_reason)
    event = message.last_event
    return StreamStatus(
        issuer=message.issuer,
        is_polled=message.polled,
        change=change,
        last_event=StreamEvent(seconds(event.time), event.name, event.result)
        if message.HasField("last_event")
        else None,
        last_rejection=_failure_of(message.last_rejection),
        last_failure=_failure_of(message.last_failure),
        last_poll_time=seconds(message.last_poll_time)
        if message.HasField("last_poll_time")
        else None,
        poll_failure=_failure_of(message.poll_failure),
        verifications=tuple(
            StreamVerification(seconds(it.time), it.state_digest) for it in message.verifications
        ),
    )


def _event_message(event: StreamEvent | None) -> pb.SignalStream.Event | None:
    if event is None:
        return None
    return pb.SignalStream.Event(time=timestamp(event.time), name=event.name, result=event.result)


def _failure_message(failure: StreamFailure | None) -> pb.SignalStream.Failure | None:
    if failure is None:
        return None
    return pb.SignalStream.Failure(time=timestamp(failure.time), text=failure.text)


def _failure_of(message: pb.SignalStream.Failure) -> StreamFailure | None:
    """None for one that is unset."""
    if not message.HasField("time"):
        return None
    return StreamFailure(seconds(message.time), message.text)
