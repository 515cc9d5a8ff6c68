"""The statuses that calls end with: all of what a client sees of an error."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from authsvc.domain.errors import Reason
from authsvc.wire.errors import STATUS_DETAILS_KEY


async def status_of(call: Awaitable[object]) -> status_pb2.Status:
    """The status that a call ends with. It is the only metadata, and has the call's message."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    metadata = [*(caught.value.initial_metadata() or ()), *(caught.value.trailing_metadata() or ())]
    ((key, encoded),) = metadata
    assert key == STATUS_DETAILS_KEY
    assert isinstance(encoded, bytes)
    status = status_pb2.Status.FromString(encoded)
    assert caught.value.details() == status.message
    return status


def check_only_reason(status: status_pb2.Status, reason: Reason) -> None:
    """A status has a reason, its public message and when to try again; nothing else."""
    assert status.message == reason.message
    first, *others = status.details
    info = error_details_pb2.ErrorInfo()
    assert first.Unpack(info)
    assert info == error_details_pb2.ErrorInfo(reason=reason.name, domain="authsvc")
    assert all(other.TypeName() == "google.rpc.RetryInfo" for other in others)
    assert len(others) <= 1
