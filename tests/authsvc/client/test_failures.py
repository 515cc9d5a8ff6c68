"""Whether a failed attempt may be retried."""

from __future__ import annotations

import grpc
import pytest
from grpc import aio

from authsvc.client.failures import failure_of, located
from authsvc.domain.errors import AuthError, GrpcStatus, Reason
from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from authsvc.wire import errors as error_wire
from tests.authsvc.client.fleet import BOUND_SECONDS, fleet

pytestmark = pytest.mark.anyio


def raised(code: grpc.StatusCode, details: bytes | None = None) -> aio.AioRpcError:
    """An error as gRPC raises it."""
    trailers = ((error_wire.STATUS_DETAILS_KEY, details),) if details is not None else ()
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata(*trailers), "secret detail")


@pytest.mark.parametrize("reason", Reason)
def test_an_error_of_authsvc_is_itself(reason: Reason) -> None:
    sent = error_wire.rpc_status_of(AuthError(reason)).SerializeToString()
    failure = failure_of(raised(grpc.StatusCode[reason.status], sent))
    assert failure.error.reason is reason
    assert failure.may_repeat == (reason.status in {GrpcStatus.UNAVAILABLE, GrpcStatus.ABORTED})
    assert failure.safe_to_retry == (reason is Reason.KEYS_UNAVAILABLE)
    assert not failure.timed_out


@pytest.mark.parametrize("code", [it for it in grpc.StatusCode if it is not grpc.StatusCode.OK])
@pytest.mark.parametrize("details", [None, b"", b"\xff"])
def test_any_other_error_is_service_unavailable(
    code: grpc.StatusCode, details: bytes | None
) -> None:
    failure = failure_of(raised(code, details))
    overloaded = code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failure.error.reason is (Reason.OVERLOADED if overloaded else Reason.SERVICE_UNAVAILABLE)
    assert failure.may_repeat == (code.name in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"})
    assert failure.timed_out == (code is grpc.StatusCode.DEADLINE_EXCEEDED)
    assert not failure.safe_to_retry
    assert "secret" not in str(failure.error)


async def test_a_call_that_was_never_sent_is_safe_to_retry() -> None:
    async with fleet(1) as [replica]:
        address = replica.address
    async with aio.insecure_channel(address) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await pb_grpc.AuthServiceStub(channel).CreateSession(
                pb.CreateSessionRequest(), timeout=BOUND_SECONDS
            )
    failure = failure_of(caught.value)
    assert failure.safe_to_retry
    assert "refused" in located(failure.error, address).detail
    assert located(failure.error, address).detail.startswith(f"authsvc at {address}: UNAVAILABLE: ")


@pytest.mark.parametrize("reason", Reason)
def test_an_outage_names_its_replica_and_nothing_else_does(reason: Reason) -> None:
    error = AuthError(reason, retry_after_seconds=7.0)
    named = located(error, "10.0.0.7:50051")
    assert (named.reason, named.retry_after_seconds) == (reason, 7.0)
    expected = f"authsvc at 10.0.0.7:50051: {reason.name}"
    assert named.detail == (expected if reason.status is GrpcStatus.UNAVAILABLE else "")
