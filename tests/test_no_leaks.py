"""The whole flow with marked tokens and credentials: no trace of either anywhere."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Iterator
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
from tests.support.checks import CHECK, Answer, request
from tests.support.stack import LOCAL_CALLER, RESOURCE, ROLES, start_adapter, start_authsvc
from tests.support.tokens import IdentityProvider

CREDENTIAL_MARK = "MARKEDsecretACCESSkey0123456789"
CLAIM_MARK = "marked-claim-0123456789"
ARGUMENT_MARK = "marked-argument-0123456789"
TIMEOUT = TIMEOUT_SECONDS


def gateways(folder: Path) -> str:
    """Tables of settings that serve gateways."""
    key = folder / "encryption.key"
    key.touch(mode=0o600)
    key.write_text(secrets.token_hex(32))
    return f"""
[assertions]
issuer = "https://authsvc.example"
listen = "127.0.0.1:0"
encryption_key_file = "{key}"
[ext_authz]
"""


def audit_of(audit_format: str, file: Path | None = None) -> str:
    """A table of settings that audits each call."""
    where = f'file = "{file}"\n' if file else ""
    return f'[audit]\ncalls = "full"\nformat = "{audit_format}"\n{where}'


@pytest.mark.parametrize("audit_format", ["json", "ocsf"])
def test_nothing_outside_the_process_holds_a_token_or_a_credential(
    tmp_path: Path, audit_format: str
) -> None:
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
        authsvc, target = start_authsvc(
            tmp_path,
            stack,
            callers=f'{LOCAL_CALLER}\naudit_file = "{tmp_path}/authsvc.audit"',
            tables=audit_of(audit_format) + gateways(tmp_path),
        )
        audit = audit_of(audit_format, tmp_path / "adapter.audit")
        adapter, url = start_adapter(tmp_path, stack, authsvc=target, s3=s3, tables=audit)
        answers = list(everything_over_http(url, tokens))
        answers += everything_over_grpc(target, tokens)
        answers += everything_over_checks(target, tokens)
        database = b"".join(path.read_bytes() for path in tmp_path.glob("authsvc.db*"))
        written = authsvc.output + adapter.output
    audits = {name: (tmp_path / f"{name}.audit").read_bytes() for name in ("authsvc", "adapter")}
    places = {
        **{f"audit of the {name}": content for name, content in audits.items()},
        "answers": "\n".join(answers).encode(),
        "database": database,
        "logs": written.encode(),
    }
    for name, token in tokens.items():
        for part in (token, *token.split(".")[1:]):
            for spelling in spellings(part):
                for place, content in places.items():
                    assert spelling not in content, f"the {name} token is in the {place}"
    for mark in (CREDENTIAL_MARK, CLAIM_MARK, ARGUMENT_MARK, idp.secret):
        for spelling in spellings(mark):
            for place, content in places.items():
                assert spelling not in content, f"{mark[:6]}… is in the {place}"
    # The places are not empty, or the above would prove nothing.
    assert b"re-authenticating" in places["logs"]
    assert b"SESSION_SUBJECT_MISMATCH" in places["logs"]
    assert b"alice" in database
    assert b"TOKEN_SIGNATURE_INVALID" in places["answers"]
    for name, audited in audits.items():
        assert b"TOKEN_SIGNATURE_INVALID" in audited, name
        assert b"alice" in audited, name
        assert audited.count(b"discover_buckets") >= len(tokens), name
    # What the adapter's tools declare, and nothing else of their arguments.
    assert b"bucket-two" in audits["adapter"]
    assert b"bucket-two" not in audits["authsvc"]


def spellings(text: str) -> Iterator[bytes]:
    """The text, in base64 and in hexadecimal."""
    raw = text[:60].encode()
    yield raw
    yield base64.b64encode(raw)[:-4]
    yield raw.hex().encode()


CALLS: list[dict[str, object]] = [
    {"name": "discover_buckets", "arguments": {}},
    {"name": "discover_buckets", "arguments": {"undeclared": ARGUMENT_MARK}},
    {"name": "bucket_objects_list", "arguments": {"bucket": "bucket-one"}},
    {"name": "bucket_objects_list", "arguments": {"bucket": "bucket-two"}},
    {"name": "bucket_objects_search", "arguments": {"bucket": "b", "pattern": ARGUMENT_MARK}},
    {"name": "discover_buckets", "_meta": {"note": ARGUMENT_MARK}},
]


def everything_over_checks(target: str, tokens: dict[str, str]) -> Iterator[str]:
    """What a gateway is answered, but for what it passes on."""
    with grpc.insecure_channel(target) as channel:
        check: Callable[..., bytes] = channel.unary_unary(CHECK)
        for token in (*tokens.values(), "", tokens["good"]):
            for call in CALLS:
                body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
                message = request("POST", body, token=token, resource=RESOURCE)
                answer = Answer.of(check(message.SerializeToString(), timeout=TIMEOUT))
                yield f"{answer.metadata} {'' if answer.allowed else answer}"


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
        for call in CALLS:
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
