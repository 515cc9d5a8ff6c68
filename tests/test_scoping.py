"""Credentials that the storage itself confines: claims, policy and evaluator, and the whole stack.

Real AWS was not reached: STS and S3 are moto's, and ``tests/support/aws.py`` enforces what AWS
documents. The evaluator was written without a look at the generator.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.credentials.policy import is_bucket, session_policy
from authsvc.credentials.s3_actions import BUCKET_ACTIONS, OBJECT_ACTIONS
from demo.s3 import serving_s3
from tests.support.aws import Aws, Session, serving_aws
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.iam import allows
from tests.support.stack import RESOURCE, start_adapter, start_authsvc
from tests.support.tokens import ISSUER, IdentityProvider

TIMEOUT = TIMEOUT_SECONDS
READ = ("s3:ListBucket", "s3:GetObject", "s3:GetBucketLocation")
OF = {"alice": ("own-alpha", "own-shared"), "bob": ("own-beta", "own-shared")}
"""Names of its own: all of moto in one process is one storage."""

# Generator and claims agree, by the evaluator.

ENDS = 1_800_000_000
ACTIONS = sorted(BUCKET_ACTIONS | OBJECT_ACTIONS)
NAMES = [
    "alpha",
    "alpha-1",
    "alph",
    "alpha.b",
    "a*a",
    "al?ha",
    "${x}",
    "b/c",
    "Beta",
    "arn:aws:s3:::alpha",
]
KEYS = ["k", "*", "a/b", "alpha", ":s3:::alpha/x", "arn:aws:s3:::alpha", "../x", "\n", "ü", "/"]
CLAIMED = st.lists(st.sampled_from(NAMES), max_size=6, unique=True)
PERMITTED = st.lists(
    st.sampled_from([*ACTIONS, "s3:*", "s3:ListAllMyBuckets", "iam:PassRole", "*"]),
    max_size=6,
    unique=True,
)


@given(CLAIMED, PERMITTED, st.sampled_from(NAMES), st.sampled_from(KEYS))
def test_what_the_claims_name_is_allowed_and_nothing_else(
    buckets: list[str], permissions: list[str], bucket: str, key: str
) -> None:
    policy = session_policy(tuple(buckets), tuple(permissions), ends=ENDS, partition="aws")
    named = bucket in buckets and is_bucket(bucket)
    for action in (*ACTIONS, "s3:ListAllMyBuckets", "s3:DeleteBucket", "iam:PassRole"):
        on_object = action in OBJECT_ACTIONS
        resource = f"arn:aws:s3:::{bucket}" + (f"/{key}" if on_object else "")
        expected = named and action in permissions and action in {*BUCKET_ACTIONS, *OBJECT_ACTIONS}
        for form in policy.forms if policy else ():
            assert allows(form, action=action, resource=resource, now=ENDS - 1) is expected
            assert not allows(form, action=action, resource=resource, now=ENDS)
        if policy is None:
            assert not expected


@given(CLAIMED, PERMITTED, st.text(max_size=40))
def test_no_other_resource_is_allowed(
    buckets: list[str], permissions: list[str], text: str
) -> None:
    policy = session_policy(tuple(buckets), tuple(permissions), ends=ENDS, partition="aws")
    allowed_prefixes = [f"arn:aws:s3:::{name}/" for name in buckets if is_bucket(name)]
    allowed_arns = [prefix[:-1] for prefix in allowed_prefixes]
    for form in policy.forms if policy else ():
        for resource in (text, f"arn:aws:s3:::{text}", f"arn:aws:s3:::{text}/key", "*"):
            if resource in allowed_arns or resource.startswith(tuple(allowed_prefixes)):
                continue
            for action in permissions:
                assert not allows(form, action=action, resource=resource, now=0)


# The whole stack: two users, two roles, overlapping buckets.


@dataclass
class Stack:
    """What runs."""

    aws: Aws
    adapter: str
    idp: IdentityProvider

    def token(self, subject: str, role: str = "reader", **claims: Sequence[str]) -> str:
        return self.idp.token(
            subject,
            claims={
                "aud": RESOURCE,
                "roles": [role],
                "buckets": OF.get(subject, ()),
                "permissions": READ,
                **claims,
            },
        )

    async def post(
        self,
        client: httpx2.AsyncClient,
        method: str,
        params: dict[str, object],
        *,
        token: str = "",
        session: str = "",
    ) -> httpx2.Response:
        """One request of a client of 2025-11-25."""
        headers = {
            "Accept": "application/json, text/event-stream",
            **({"Authorization": f"Bearer {token}"} if token else {}),
            **({"Mcp-Session-Id": session} if session else {}),
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return await client.post(f"{self.adapter}/mcp", json=body, headers=headers)

    async def initialize(self, client: httpx2.AsyncClient) -> str:
        """A session, without a token yet."""
        params: dict[str, object] = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        }
        answer = await self.post(client, "initialize", params)
        assert answer.status_code == 200, answer.text
        return str(answer.headers["mcp-session-id"])

    async def call(
        self,
        client: httpx2.AsyncClient,
        token: str,
        tool: str,
        *,
        session: str = "",
        **arguments: str,
    ) -> dict[str, Any]:
        """A tool's result."""
        answer = await self.post(
            client,
            "tools/call",
            {"name": tool, "arguments": arguments},
            token=token,
            session=session or await self.initialize(client),
        )
        assert answer.status_code == 200, answer.text
        # What takes long is answered by a stream.
        text = answer.text.rpartition("data: ")[2]
        result: dict[str, Any] = json.loads(text)["result"]
        return result


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("scoping")
    idp = IdentityProvider(time.time)
    idp.write_secret(folder)
    (folder / "aws.key").write_text("our-own-secret")
    objects = {
        name: {f"{name}/{number}.txt": f"of {name}".encode() for number in range(3)}
        for name in ("own-alpha", "own-beta", "own-shared", "own-gamma")
    }
    with ExitStack() as running:
        moto = urlsplit(running.enter_context(serving_s3(objects)))
        aws = running.enter_context(serving_aws((str(moto.hostname), int(moto.port or 0))))
        credentials = f"""
[[credentials.sts]]
region = "us-east-1"
endpoint_url = "{aws.url}"
access_key_id = "AKIAOURSELVES"
secret_access_key_file = "{folder}/aws.key"
""" + "".join(
            f"""
[[credentials.sts.roles]]
issuer = "{ISSUER}"
role = "{role}"
arn = "arn:aws:iam::123456789012:role/mcp-{role}"
"""
            for role in ("reader", "analyst")
        )
        _, address = start_authsvc(folder, running, credentials=credentials)
        _, adapter = start_adapter(folder, running, authsvc=address, s3=aws.url)
        yield Stack(aws, adapter, idp)


def last_of(stack: Stack, subject: str, bucket: str = "") -> tuple[str, Session]:
    """The access key id of the subject's last session, and the session.

    Args:
        stack: has the sessions.
        subject: whose.
        bucket: that it is for; empty for any.
    """
    return [
        (key, session)
        for key, session in stack.aws.sessions.items()
        if subject in session.name and f"{bucket}/*" in session.policy
    ][-1]


def run(work: Any) -> Any:  # noqa: ANN401 - what the work returns
    async def bounded() -> Any:  # noqa: ANN401 - likewise
        async with asyncio.timeout(TIMEOUT), httpx2.AsyncClient(timeout=TIMEOUT) as client:
            return await work(client)

    return asyncio.run(bounded())


def test_each_reads_what_its_claims_name_and_storage_enforces_it(stack: Stack) -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        for subject, buckets in OF.items():
            token = stack.token(subject)
            for bucket in ("own-alpha", "own-beta", "own-shared"):
                result = await stack.call(client, token, "bucket_objects_list", bucket=bucket)
                assert bool(result.get("isError")) is (bucket not in buckets)

    began = len(stack.aws.requests)
    run(work)
    asked = stack.aws.requests[began:]
    assert asked
    assert all(it.allowed for it in asked)


def test_the_storage_refuses_what_the_tools_would_let_through(stack: Stack) -> None:
    """The second lock by itself: credentials of one, used for what the other has."""

    async def work(client: httpx2.AsyncClient) -> None:
        await stack.call(client, stack.token("alice"), "bucket_objects_list", bucket="own-alpha")

    run(work)
    key_id, session = last_of(stack, "alice", "own-alpha")
    for method, target, allowed in (
        ("GET", "/own-alpha?list-type=2", True),
        ("GET", "/own-alpha/own-alpha/0.txt", True),
        ("GET", "/own-beta?list-type=2", False),
        ("GET", "/own-beta/own-beta/0.txt", False),
        # Another bucket of the same token: the call was not about it.
        ("GET", "/own-shared?list-type=2", False),
        ("GET", "/own-alpha-other?list-type=2", False),
        ("GET", "/", False),
        ("PUT", "/own-alpha/new.txt", False),
        ("DELETE", "/own-alpha/own-alpha/0.txt", False),
        ("GET", "/own-alpha?acl", False),
    ):
        headers = {
            "authorization": f"AWS4-HMAC-SHA256 Credential={key_id}/x/us-east-1/s3/aws4_request",
            "x-amz-security-token": session.secret_token,
        }
        assert bool(stack.aws.refusal_of_s3(method, target, headers)) is not allowed, target


def test_role_switches_at_once_never_mix(stack: Stack) -> None:
    """On each session one user alternates between two roles; no object of another bucket is ever
    read, and every request bears the credentials of its own token's role."""
    expected = {("alice", "reader"): "own-alpha", ("alice", "analyst"): "own-gamma",
                ("bob", "reader"): "own-beta", ("bob", "analyst"): "own-shared"}  # fmt: skip
    tokens = {
        (subject, role): stack.token(subject, role, buckets=[bucket])
        for (subject, role), bucket in expected.items()
    }

    async def work(client: httpx2.AsyncClient) -> None:
        sessions = {subject: await stack.initialize(client) for subject in OF}

        async def one(number: int) -> None:
            (subject, role), bucket = list(expected.items())[number % 4]
            result = await stack.call(
                client,
                tokens[subject, role],
                "bucket_objects_list",
                session=sessions[subject],
                bucket=bucket,
            )
            assert not result.get("isError"), result
            keys = [it["key"] for it in result["structuredContent"]["objects"]]
            assert keys == [f"{bucket}/{number}.txt" for number in range(3)]
            text = await stack.call(
                client,
                tokens[subject, role],
                "bucket_object_text",
                session=sessions[subject],
                bucket=bucket,
                key=keys[0],
            )
            assert text["structuredContent"]["text"] == f"of {bucket}"
            other = list(expected.values())[(number + 1) % 4]
            refused = await stack.call(
                client,
                tokens[subject, role],
                "bucket_objects_list",
                session=sessions[subject],
                bucket=other,
            )
            assert refused["isError"]

        await asyncio.gather(*map(one, range(100)))

    began = len(stack.aws.requests)
    run(work)
    for asked in stack.aws.requests[began:]:
        assert asked.allowed
        session = stack.aws.sessions[asked.access_key_id]
        role = session.parameters["RoleArn"].rpartition("mcp-")[2]
        subject = "alice" if "alice" in session.name else "bob"
        assert asked.resource.startswith(f"arn:aws:s3:::{expected[subject, role]}")


def test_two_hundred_first_calls_are_one_call_of_sts(stack: Stack) -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        results = await asyncio.gather(
            *(
                stack.call(client, token, "bucket_objects_list", bucket="own-alpha")
                for _ in range(200)
            )
        )
        assert not any(result.get("isError") for result in results)

    # Another end than any other token's, and so another policy.
    token = stack.idp.token(
        "alice",
        ttl_seconds=1234,
        claims={"aud": RESOURCE, "buckets": ["own-alpha"], "permissions": READ},
    )
    before = stack.aws.assumed
    run(work)
    assert stack.aws.assumed == before + 1


def test_nothing_is_allowed_once_the_token_has_ended(stack: Stack) -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        await stack.call(client, stack.token("bob"), "bucket_objects_list", bucket="own-beta")

    run(work)
    key_id, session = last_of(stack, "bob")
    headers = {
        "authorization": f"AWS4-HMAC-SHA256 Credential={key_id}/x/us-east-1/s3/aws4_request",
        "x-amz-security-token": session.secret_token,
    }
    assert not stack.aws.refusal_of_s3("GET", "/own-beta?list-type=2", headers)
    clock = stack.aws.clock
    try:
        stack.aws.clock = lambda: time.time() + 601
        assert stack.aws.refusal_of_s3("GET", "/own-beta?list-type=2", headers) == "AccessDenied"
    finally:
        stack.aws.clock = clock


def test_without_buckets_or_permissions_sts_is_not_asked(stack: Stack) -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        for claim in ("buckets", "permissions"):
            claims: dict[str, object] = {
                "aud": RESOURCE,
                "roles": ["reader"],
                "buckets": ["own-alpha"],
            }
            claims |= {"permissions": READ, claim: []}
            token = stack.idp.token("alice", claims=claims)
            result = await stack.call(client, token, "bucket_objects_list", bucket="own-alpha")
            assert result["isError"]
            result = await stack.call(client, token, "whoami")
            assert not result.get("isError")

    before = stack.aws.assumed
    run(work)
    assert stack.aws.assumed == before


def test_while_sts_is_away_what_is_there_is_served(stack: Stack) -> None:
    known, unknown = (
        stack.token("alice"),
        stack.idp.token(
            "alice",
            ttl_seconds=4321,
            claims={"aud": RESOURCE, "buckets": ["own-alpha"], "permissions": READ},
        ),
    )

    async def served(client: httpx2.AsyncClient, token: str) -> bool:
        answer = await stack.post(
            client,
            "tools/call",
            {"name": "bucket_objects_list", "arguments": {"bucket": "own-alpha"}},
            token=token,
            session=await stack.initialize(client),
        )
        assert answer.status_code == 200, answer.text
        result = json.loads(answer.text.rpartition("data: ")[2])["result"]
        if result["isError"]:
            assert result["content"][0]["text"] == "Credentials are unavailable; try again."
        return not result["isError"]

    async def work(client: httpx2.AsyncClient) -> None:
        assert await served(client, known)
        stack.aws.fails.set()
        try:
            assert await served(client, known)
            assert not await served(client, unknown)
            # What needs no credentials works.
            assert not (await stack.call(client, unknown, "whoami"))["isError"]
        finally:
            stack.aws.fails.clear()
        while not await served(client, unknown):  # noqa: ASYNC110 - as the answer says
            await asyncio.sleep(0.05)

    run(work)
