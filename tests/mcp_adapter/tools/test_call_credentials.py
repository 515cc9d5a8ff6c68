"""A call has credentials when its tool asks for them, for the bucket that it is about."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import (
    BearerCredentials,
    Principal,
    Secret,
)
from mcp_adapter import caller
from mcp_adapter.testing import as_caller
from mcp_adapter.tools import Call, ToolError
from mcp_adapter.tools.loading import OWN
from mcp_adapter.tools.s3 import S3Clients
from tests.mcp_adapter.harness import DEADLINE_SECONDS
from tests.mcp_adapter.tools.calls import credentials
from tests.mcp_adapter.tools.served import ERAS, Served, served

pytestmark = pytest.mark.anyio

BEARER = BearerCredentials(Secret("for-the-api"), "Bearer", expire_time=2e9)


def call_with(issued: Any) -> Call:  # noqa: ANN401 - whatever a name gives
    who = Principal("idp", "alice", 2e9, buckets=("alpha",))
    request = as_caller(who, named={"named": issued})
    return Call(caller(request), S3Clients(endpoint_url=None, region="us-east-1"))


async def test_credentials_of_each_kind() -> None:
    aws = credentials()
    assert await call_with(aws).aws_credentials("named", buckets=["alpha"]) == aws
    assert await call_with(BEARER).bearer_credentials("named") == BEARER
    assert await call_with(BEARER).credentials("named") == BEARER
    assert await call_with(None).credentials("named") is None
    for issued in (None, BEARER):
        with pytest.raises(ToolError, match="credentials for the storage"):
            await call_with(issued).aws_credentials("named")
    for other in (None, aws):
        with pytest.raises(ToolError, match="an access token for this API"):
            await call_with(other).bearer_credentials("named")


@pytest.mark.parametrize(
    "reason", [Reason.CREDENTIALS_REFUSED, Reason.CREDENTIALS_UNAVAILABLE, Reason.TOKEN_REVOKED]
)
async def test_why_there_are_none_is_in_the_log_and_its_message_in_the_answer(
    reason: Reason, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"), pytest.raises(ToolError) as caught:
        await call_with(AuthError(reason, "for operators")).aws_credentials("named")
    assert str(caught.value) == reason.message
    (line,) = [it for it in caplog.records if it.name == "mcp_adapter.tools.call"]
    assert "for operators" in line.getMessage()
    assert line.__dict__["reason"] == reason.name


@pytest.fixture
async def server(upstream: str) -> AsyncIterator[Served]:
    """All tools of the adapter."""
    async with served(OWN, upstream) as running:
        yield running


PLACE = {"bucket": "alpha", "key": "a b.txt"}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("tool", "arguments", "issued"),
    [
        ("whoami", {}, []),
        ("discover_buckets", {}, []),
        ("discover_buckets", {"check_access": True}, [()]),
        ("bucket_objects_list", {"bucket": "alpha"}, [("alpha",)]),
        ("bucket_objects_search", {"bucket": "alpha", "pattern": "a*"}, [("alpha",)]),
        ("bucket_object_info", PLACE, [("alpha",)]),
        ("bucket_object_text", PLACE, [("alpha",)]),
        ("bucket_object_link", PLACE, [("alpha",)]),
        ("bucket_object_put", {**PLACE, "text": "x", "overwrite": True}, [("alpha",)]),
        ("bucket_object_delete", {"bucket": "alpha", "key": "new"}, [("alpha",)]),
    ],
)
async def test_a_broker_is_called_for_the_bucket_of_a_call_and_for_nothing_else(
    server: Served, era: str, tool: str, arguments: dict[str, object], issued: list[tuple[str]]
) -> None:
    """The client opens a session where there are some, lists the tools, and calls one."""
    with anyio.fail_after(DEADLINE_SECONDS):
        async with server.client(era) as client:
            answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer
    selections = server.resolver.selections
    assert len(selections) > len(issued) + 1
    assert [it for it in selections if it != ()] == [
        (CredentialRequest(buckets=buckets),) for buckets in issued
    ]


async def test_a_bucket_that_is_not_the_tokens_is_not_asked_for(server: Served) -> None:
    with anyio.fail_after(DEADLINE_SECONDS):
        async with server.client("legacy") as client:
            answer = await client.call_tool("bucket_objects_list", {"bucket": "empty-one"})
    assert answer.is_error
    assert set(server.resolver.selections) == {()}
