"""The whole flow with marked tokens and credentials: no trace of either anywhere."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import httpx2
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from authsvc.v1 import auth_pb2 as pb
from authsvc.v1 import auth_pb2_grpc as pb_grpc
from demo.s3 import serving_s3
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.stack import RESOURCE, ROLES, start_adapter, start_authsvc
from tests.support.tokens import IdentityProvider

CREDENTIAL_MARK = "MARKEDsecretACCESSkey0123456789"
CLAIM_MARK = "marked-claim-0123456789"
TIMEOUT = TIMEOUT_SECONDS


def test_nothing_outside_the_process_holds_a_token_or_a_credential(tmp_path: Path) -> None:
    idp = IdentityProvider(time.time)
    idp.write_secret(tmp_path)
    for role in ROLES:
        (tmp_path / f"{role}.key").write_text(CREDENTIAL_MARK)
    good = idp.token(aud=RESOURCE, mark=CLAIM_MARK, buckets=["bucket-one"])
    tokens = {
        "good": good,
        "newer": idp.token(aud=RESOURCE, mark=CLAIM_MARK, iat=time.time() + 1),
        "stranger": idp.token("mallory", aud=RESOURCE, mark=CLAIM_MARK),
        "forged": IdentityProvider(time.time).token(aud=RESOURCE, mark=CLAIM_MARK),
        "expired": idp.token(aud=RESOURCE, mark=CLAIM_MARK, exp=time.time() - 90),
        "broken": good[:-3] + "*" + good[-2:],
        "huge": good + "x" * 70_000,
    }
    with ExitStack() as stack:
        s3 = stack.enter_context(serving_s3({"bucket-one": {"key": b"x"}}))
        authsvc, target = start_authsvc(tmp_path, stack)
        adapter, url = start_adapter(tmp_path, stack, authsvc=target, s3=s3)
        answers = list(everything_over_http(url, tokens))
        answers += everything_over_grpc(target, tokens)
        database = b"".join(path.read_bytes() for path in tmp_path.glob("authsvc.db*"))
        written = authsvc.output + adapter.output
    places = {
        "answers": "\n".join(answers).encode(),
        "database": database,
        "logs": written.encode(),
    }
    for name, token in tokens.items():
        for part in (token, *token.split(".")[1:]):
            for spelling in spellings(part):
                for place, content in places.items():
                    assert spelling not in content, f"the {name} token is in the {place}"
    for mark in (CREDENTIAL_MARK, CLAIM_MARK, idp.secret):
        for spelling in spellings(mark):
            for place, content in places.items():
                assert spelling not in content, f"{mark[:6]}… is in the {place}"
    # The places are not empty, or the above would prove nothing.
    assert b"re-authenticating" in places["logs"]
    assert b"SESSION_SUBJECT_MISMATCH" in places["logs"]
    assert b"alice" in database
    assert b"TOKEN_SIGNATURE_INVALID" in places["answers"]


def spellings(text: str) -> Iterator[bytes]:
    """The text, in base64 and in hexadecimal."""
    raw = text[:60].encode()
    yield raw
    yield base64.b64encode(raw)[:-4]
    yield raw.hex().encode()


def everything_over_http(url: str, tokens: dict[str, str]) -> Iterator[str]:
    """Bodies and headers of the answers to every kind of token."""
    headers = {"Accept": "application/json, text/event-stream"}

    def post(method: str, params: dict[str, object], token: str = "") -> httpx2.Response:
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return httpx2.post(
            f"{url}/mcp", json=body, headers={**headers, **authorization}, timeout=TIMEOUT
        )

    hello: dict[str, object] = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    opened = post("initialize", hello)
    headers["Mcp-Session-Id"] = opened.headers["mcp-session-id"]
    for token in (*tokens.values(), "", tokens["good"]):
        calls: list[dict[str, object]] = [
            {"name": "discover_buckets", "arguments": {}},
            {"name": "bucket_objects_list", "arguments": {"bucket": "bucket-one"}},
            {"name": "bucket_objects_list", "arguments": {"bucket": "bucket-two"}},
        ]
        for call in calls:
            answer = post("tools/call", call, token)
            yield f"{answer.headers}\n{answer.text}"
    for path in ("/healthz", "/readyz", "/.well-known/oauth-protected-resource"):
        yield httpx2.get(url + path, timeout=TIMEOUT).text


def everything_over_grpc(target: str, tokens: dict[str, str]) -> Iterator[str]:
    """Errors as callers see them, and what reflection tells."""
    with grpc.insecure_channel(target) as channel:
        stub = pb_grpc.AuthServiceStub(channel)
        for name, token in tokens.items():
            try:
                stub.ResolveSession(
                    pb.ResolveSessionRequest(
                        session_id=f"leaks-{name}", token=token, resource=RESOURCE, create=True
                    ),
                    timeout=TIMEOUT,
                )
            except grpc.RpcError as error:
                call = error
                yield f"{call}\n{call.trailing_metadata()}"
        database = ProtoReflectionDescriptorDatabase(channel)
        for service in database.get_services():
            yield str(database.FindFileContainingSymbol(service))


@pytest.mark.parametrize("field", ["token", "secret_access_key", "session_token", "access_token"])
def test_secret_fields_are_marked_in_the_contract(field: str) -> None:
    found = [
        message.fields_by_name[field]
        for message in pb.DESCRIPTOR.message_types_by_name.values()
        if field in message.fields_by_name and message.fields_by_name[field].type == 9
    ]
    assert found
    assert all(item.GetOptions().debug_redact for item in found)
