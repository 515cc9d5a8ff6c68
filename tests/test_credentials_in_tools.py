"""Tools that use AWS as their caller, through the whole stack: gate, authsvc, STS and S3.

authsvc is a process that logs at DEBUG; STS and S3 are moto's, behind ``tests/support/aws.py``,
which enforces session policies and counts. Real AWS was not reached.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import anyio.to_thread
import pytest
from botocore.exceptions import ClientError
from starlette.requests import Request
from starlette.responses import JSONResponse

from authsvc.client import AuthClient
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import AwsCredentials
from demo.s3 import serving_s3
from mcp_adapter import Caller, SessionGate, caller
from mcp_adapter.aws import boto3_session_for, session_for
from tests.mcp_adapter.gate.direct import posted
from tests.mcp_adapter.harness import MODERN, call
from tests.support.aws import Aws, Session, serving_aws
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.processes import Process
from tests.support.stack import DEADLINE_SECONDS, RESOURCE, start_authsvc
from tests.support.tokens import ISSUER, IdentityProvider

pytestmark = pytest.mark.anyio

BUCKETS = tuple(f"tools-{number:03}" for number in range(500))
"""A token's, of which moto has the first three. Names of their own: all of moto in one process is
one storage."""

READ = ("s3:ListBucket", "s3:GetObject")

Work = Callable[[Caller], Awaitable[object]]


@dataclass
class Stack:
    """What runs."""

    aws: Aws
    idp: IdentityProvider
    address: str
    authsvc: Process

    def token(self, subject: str = "ada", **claims: object) -> str:
        own = {"aud": RESOURCE, "buckets": BUCKETS, "permissions": READ, **claims}
        return self.idp.token(subject, claims=own)

    def sessions(self, subject: str) -> list[Session]:
        """What STS has issued for a subject of this test's own."""
        return [it for it in self.aws.sessions.values() if it.name.startswith(subject)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("tools")
    idp = IdentityProvider(time.time)
    idp.write_secret(folder)
    (folder / "aws.key").write_text("our-own-secret")
    with ExitStack() as running:
        objects = {name: {"k": name.encode()} for name in BUCKETS[:3]}
        moto = urlsplit(running.enter_context(serving_s3(objects)))
        aws = running.enter_context(serving_aws((str(moto.hostname), int(moto.port or 0))))
        keys = f'access_key_id = "AKIAOURSELVES"\nsecret_access_key_file = "{folder}/aws.key"'
        tags = '[credentials.sts.claim_tags]\nteam = "team"'
        tables = "".join(
            f"""
[[credentials.sts]]
name = "{name}"
resources = ["{RESOURCE}"]
region = "us-east-1"
endpoint_url = "{aws.url}"
{settings}
[[credentials.sts.roles]]
issuer = "{ISSUER}"
arn = "arn:aws:iam::123456789012:role/mcp-{name}"
"""
            for name, settings in (
                ("reports", keys),
                ("teams", f'{keys}\nbuckets_by = "role"\n{tags}'),
                ("own", "use_client_token = true"),
            )
        )
        authsvc, address = start_authsvc(folder, running, credentials=tables)
        yield Stack(aws, idp, address, authsvc)


async def serve(stack: Stack, work: Work, *tokens: str) -> list[int]:
    """The statuses of one call each, at once, whose tool does ``work``."""

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's
        request = Request(scope)
        await work(caller(request))
        message = {"jsonrpc": "2.0", "id": request.state.mcp_message["id"], "result": {}}
        await JSONResponse(message)(scope, receive, send)

    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        AuthClient(stack.address, deadline_seconds=DEADLINE_SECONDS) as client,
    ):
        gate = SessionGate(
            app,
            resolver=client,
            resource=RESOURCE,
            requirement=lambda *_: None,
            credentials="on_demand",
        )
        sent = await asyncio.gather(
            *(posted(gate, call("x"), token=token, version=MODERN) for token in tokens)
        )
    return [it[0]["status"] for it in sent]


async def read(stack: Stack, who: Caller, bucket: str, times: int = 1) -> None:
    """By aiobotocore, and by boto3 in a thread."""
    session = await session_for(who, "reports", buckets=[bucket])
    async with session.create_client("s3", endpoint_url=stack.aws.url) as s3:
        for _ in range(times):
            answer = await s3.get_object(Bucket=bucket, Key="k")
            assert await answer["Body"].read() == bucket.encode()

    def work() -> None:
        session = boto3_session_for(who, "reports", buckets=[bucket])
        client = session.client("s3", endpoint_url=stack.aws.url)
        for _ in range(times):
            assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == bucket.encode()
        client.close()

    await anyio.to_thread.run_sync(work)


async def test_a_call_for_each_bucket_and_no_more(stack: Stack) -> None:
    """Of a token with 500: twelve requests at once read three of them, 48 times."""
    token = stack.token("selecting")
    before, arrived = stack.aws.assumed, iter(range(12))

    async def work(who: Caller) -> None:
        await read(stack, who, BUCKETS[next(arrived) % 3], times=2)

    began = len(stack.aws.requests)
    assert await serve(stack, work, *[token] * 12) == [200] * 12

    assert stack.aws.assumed == before + 3
    asked = stack.aws.requests[began:]
    assert len(asked) == 48
    for request in asked:
        policy = json.loads(stack.aws.sessions[request.access_key_id].policy)
        (bucket,) = {arn.split(":::")[1].split("/")[0] for arn in resources(policy)}
        assert request.resource == f"arn:aws:s3:::{bucket}/k"
        assert request.allowed


def resources(policy: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for statement in policy["Statement"]:
        listed = statement["Resource"]
        found += [listed] if isinstance(listed, str) else listed
    return found


async def test_a_session_for_one_bucket_reads_no_other(stack: Stack) -> None:
    async def work(who: Caller) -> None:
        session = await session_for(who, "reports", buckets=[BUCKETS[0]])
        async with session.create_client("s3", endpoint_url=stack.aws.url) as s3:
            await s3.head_object(Bucket=BUCKETS[0], Key="k")
            with pytest.raises(ClientError, match="AccessDenied"):
                await s3.get_object(Bucket=BUCKETS[1], Key="k")

    assert await serve(stack, work, stack.token("confined")) == [200]


async def test_all_buckets_of_a_large_token_are_refused_without_a_call(stack: Stack) -> None:
    before = stack.aws.assumed

    async def work(who: Caller) -> None:
        for buckets in ((), ("tools-of-another",)):
            with pytest.raises(AuthError) as caught:
                await session_for(who, "reports", buckets=buckets)
            assert caught.value.reason is Reason.CREDENTIALS_REFUSED

    assert await serve(stack, work, stack.token("whole")) == [200]
    assert stack.aws.assumed == before


async def test_tags_are_the_claims_of_this_token(stack: Stack) -> None:
    """Two at once, of one subject: no session is shared between teams."""
    used: dict[str, set[str]] = {}

    async def work(who: Caller) -> None:
        session = await session_for(who, "teams", buckets=[BUCKETS[0]])
        async with session.create_client("s3", endpoint_url=stack.aws.url) as s3:
            await s3.head_object(Bucket=BUCKETS[0], Key="k")
        key = (await who.credentials("teams", AwsCredentials, buckets=[BUCKETS[0]])).access_key_id
        used.setdefault(str(who.claims["team"]), set()).add(key)

    tokens = [stack.token("tagged", team=team) for team in ("blue", "green")]
    assert await serve(stack, work, *tokens * 4) == [200] * 8
    assert len(stack.sessions("tagged")) == 2
    for team, found in used.items():
        (key,) = found
        sent = stack.aws.sessions[key].parameters
        tags = {
            sent[name]: sent[name.replace("Key", "Value")] for name in sent if name.endswith(".Key")
        }
        assert tags["team"] == team


async def test_without_the_claim_of_a_tag_there_is_no_call(stack: Stack) -> None:
    async def work(who: Caller) -> None:
        with pytest.raises(AuthError) as caught:
            await session_for(who, "teams", buckets=[BUCKETS[0]])
        assert caught.value.reason is Reason.CREDENTIALS_REFUSED

    assert await serve(stack, work, stack.token("untagged")) == [200]
    assert not stack.sessions("untagged")


async def test_the_clients_own_token_is_in_no_log(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    """STS gets it; authsvc and the server, both at DEBUG, do not log it."""
    # By name, too: a program's own configuration in another test leaves levels behind.
    for name in ("", "botocore", "aiobotocore", "httpx2"):
        caplog.set_level(logging.DEBUG, logger=name)
    tokens = [stack.token("own", jti=jti) for jti in ("1", "2")]

    async def work(who: Caller) -> None:
        session = await session_for(who, "own", buckets=[BUCKETS[0]])
        async with session.create_client("s3", endpoint_url=stack.aws.url) as s3:
            await s3.head_object(Bucket=BUCKETS[0], Key="k")

    assert await serve(stack, work, *tokens * 3) == [200] * 6
    sent = [it.parameters for it in stack.sessions("own")]
    assert {it["Action"] for it in sent} == {"AssumeRoleWithWebIdentity"}
    # Each token is a session of its own.
    assert sorted(it["WebIdentityToken"] for it in sent) == sorted(tokens)
    logged = stack.authsvc.output + caplog.text
    assert "mcp-own" in logged
    assert "botocore" in caplog.text
    for token in tokens:
        # Nor a part of it.
        assert not [part for part in token.split(".")[1:] if part in logged]
    assert "our-own-secret" not in logged
