"""``authsvc credential-process``, as the AWS CLI and SDKs run it: botocore's own provider."""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from collections.abc import AsyncIterator
from configparser import ConfigParser
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import CredentialRetrievalError
from botocore.session import Session

from authsvc.server.config.credentials import CredentialSettings
from authsvc.server.running import running
from demo.s3 import serving_s3
from tests.support.aws import Aws, serving_aws
from tests.support.commands import PATIENT, ROOT, Ran, run
from tests.support.operators import SERVICE_TOKENS, settings, write_tls
from tests.support.snippets import blocks_of
from tests.support.tokens import OTHER_RESOURCE, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

BUCKETS = ("process-alpha", "process-beta")
"""Names of its own: all of moto in one process is one storage."""

VARIABLE = "AUTHSVC_CLIENT_TOKEN"


class Asker:
    """Runs the command against a running authsvc, as an MCP server.

    Attributes:
        aws: what issues.
        idp: who signs tokens.
        token_file: of the user.
    """

    def __init__(self, address: str, tls: Path, aws: Aws, idp: IdentityProvider) -> None:
        self.aws, self.idp, self.tls = aws, idp, tls
        self.token_file = tls / "user.token"
        self.token_file.touch(mode=0o600)
        self.options = (
            *("--target", address, "--ca-file", str(tls / "ca.pem"), "--resource", RESOURCE),
            *PATIENT,
        )

    def arguments(self, *more: str, caller: str = "server", of_file: bool = True) -> list[str]:
        named = ("--service-token-file", str(self.tls / caller)) if caller else ()
        file = ("--token-file", str(self.token_file)) if of_file else ()
        return ["credential-process", *self.options, *named, *file, *more]

    def present(self, subject: str = "ada", **claims: Any) -> str:  # noqa: ANN401 - JSON
        token = self.idp.token(subject, **{"buckets": BUCKETS, **claims})
        self.token_file.write_text(token + "\n")
        return token

    async def ask(self, *more: str, caller: str = "server", of_file: bool = True) -> Ran:
        ran = await run(*self.arguments(*more, caller=caller, of_file=of_file))
        for secret in (self.token_file.read_text().strip() or "-none-", *SERVICE_TOKENS.values()):
            assert secret not in ran.out + ran.err
        if ran.code:
            assert not ran.out
            assert ran.err.startswith("authsvc: ")
        return ran


@pytest.fixture
async def asker(tmp_path: Path) -> AsyncIterator[Asker]:
    idp, tls = IdentityProvider(time.time), write_tls(tmp_path / "tls")
    (tmp_path / "aws.key").write_text("our-own-secret")
    with serving_s3({name: {"k": name.encode()} for name in BUCKETS}) as moto:
        at = urlsplit(moto)
        with serving_aws((str(at.hostname), int(at.port or 0))) as aws:
            sts = {
                "region": "eu-west-1",
                "endpoint_url": aws.url,
                "access_key_id": "AKIAOURSELVES",
                "secret_access_key_file": tmp_path / "aws.key",
                "roles": [{"issuer": idp.issuer, "arn": "arn:aws:iam::123456789012:role/mcp"}],
            }
            static = {"role": "analyst", "access_key_id": "AKIASTATIC", "name": "lasting"}
            exchange = {
                "name": "api",
                "resources": [RESOURCE],
                "issuers": [idp.issuer],
                "endpoint": "http://127.0.0.1:9/token",
                "allow_private_addresses": True,
                "client_id": "authsvc",
                "client_secret_file": tmp_path / "aws.key",
            }
            tables = {
                "sts": [{**sts, "name": "reports", "resources": [RESOURCE]}],
                "static": [
                    {**static, "resources": [RESOURCE], "secret_access_key_file": tls / "server"}
                ],
                "exchange": [exchange],
            }
            configured = settings(tmp_path, tls, idp).model_copy(
                update={"credentials": CredentialSettings.model_validate(tables)}
            )
            async with running(configured, clock=time.time) as address:
                yield Asker(address, tls, aws, idp)


async def test_they_are_printed_as_aws_reads_them(asker: Asker) -> None:
    asker.present()
    first = await asker.ask("--name", "reports")
    assert first.code == 0, first.err
    document = first.json()
    assert set(document) == {
        *("Version", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
    }
    assert document["Version"] == 1
    assert document["AccessKeyId"] in asker.aws.sessions
    # With the token.
    ends = datetime.fromisoformat(document["Expiration"]).timestamp()
    assert time.time() < ends <= time.time() + 600

    assert (await asker.ask("--name", "reports")).json() == document
    assert asker.aws.assumed == 1


async def test_buckets_confine_them(asker: Asker) -> None:
    asker.present()
    ran = await asker.ask("--name", "reports", "--bucket", BUCKETS[0])
    policy = asker.aws.sessions[ran.json()["AccessKeyId"]].policy
    assert BUCKETS[0] in policy
    assert BUCKETS[1] not in policy

    refused = await asker.ask("--name", "reports", "--bucket", "process-gamma")
    assert refused.code == 1
    assert "CREDENTIALS_REFUSED" in refused.err
    assert asker.aws.assumed == 1


async def test_keys_without_a_session_token(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "SERVICE_TOKENS", {})  # a key here is one of them
    asker.present(roles=["analyst"])
    ran = await asker.ask("--name", "lasting")
    assert ran.code == 0, ran.err
    assert set(ran.json()) == {"Version", "AccessKeyId", "SecretAccessKey", "Expiration"}


async def test_the_token_may_be_in_the_environment(asker: Asker) -> None:
    token = asker.present()
    options = asker.arguments("--name", "reports", of_file=False)
    ran = await run(*options, env={VARIABLE: token})
    assert ran.code == 0, ran.err
    # The file, where both are given.
    other = asker.idp.token("bob", buckets=[])
    ran = await run(*asker.arguments("--name", "reports"), env={VARIABLE: other})
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    ("claims", "arguments", "code", "text"),
    [
        ({"ttl_seconds": -60}, ["--name", "reports"], 1, "TOKEN_EXPIRED"),
        ({"aud": OTHER_RESOURCE}, ["--name", "reports"], 1, "TOKEN_AUDIENCE_MISMATCH"),
        ({}, ["--name", "unknown"], 1, "ARGUMENT_INVALID"),
        ({}, ["--name", "a b"], 2, "--name, --bucket: name is 1 to 64"),
        ({}, ["--name", "lasting"], 1, "no credentials 'lasting'"),
        ({}, [], 1, "no credentials without a name"),
        ({}, ["--name", "api"], 3, "what issues them does not answer"),
    ],
)
async def test_what_is_not_had_is_said_on_standard_error(
    asker: Asker, claims: dict[str, Any], arguments: list[str], code: int, text: str
) -> None:
    asker.present(**claims)
    ran = await asker.ask(*arguments)
    assert (ran.code, text in ran.err) == (code, True), ran.err
    assert not asker.aws.assumed


async def test_sts_that_does_not_answer_is_unavailable(asker: Asker) -> None:
    asker.present()
    asker.aws.fails.set()
    ran = await asker.ask("--name", "reports")
    assert ran.code == 3
    assert "CREDENTIALS_UNAVAILABLE: what issues them does not answer" in ran.err


async def test_the_caller_is_an_mcp_server_of_the_resource(asker: Asker) -> None:
    asker.present()
    for caller in ("operator", ""):
        ran = await asker.ask("--name", "reports", caller=caller)
        assert ran.code == 1, ran.err
        assert "CALLER_NOT_ALLOWED" in ran.err
        assert "admin" not in ran.err


@pytest.mark.parametrize(
    ("mode", "content", "text"),
    [
        (0o604, "token", "is open to all users (mode 604): chmod 600"),
        (0o602, "token", "is open to all users (mode 602): chmod 600"),
        (0o600, "", "is empty"),
        (0o600, "a" * 2_000_000, "is larger than"),
    ],
)
async def test_a_token_that_others_read_is_not_sent(
    asker: Asker, mode: int, content: str, text: str
) -> None:
    asker.token_file.write_text(content)
    asker.token_file.chmod(mode)
    ran = await run(*asker.arguments("--name", "reports"))
    assert ran.code == 2
    assert text in ran.err


async def test_no_token_and_no_authsvc(asker: Asker) -> None:
    ran = await run(*asker.arguments(of_file=False))
    assert ran.code == 2
    assert f"give --token-file, or {VARIABLE}" in ran.err
    asker.present()
    ran = await asker.ask("--target", "127.0.0.1:9", "--timeout-seconds", "0.5")
    assert ran.code == 3
    assert "127.0.0.1:9" in ran.err


async def test_the_profile_of_the_page(
    asker: Asker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Botocore runs it, with this test's addresses, files and bucket in place of the page's."""
    (block,) = [it for it in blocks_of("docs/credentials/in-a-tool.md") if it.language == "ini"]
    parser = ConfigParser()
    parser.read_string(block.text)
    program, command, *words = shlex.split(parser["profile reports"]["credential_process"])
    assert (program, command) == ("authsvc", "credential-process")
    here = dict(batched(asker.arguments()[1:])) | {"--bucket": BUCKETS[0], "--name": "reports"}
    page = dict(batched(words))
    assert set(page) | {"--timeout-seconds"} == set(here)
    changed = [it for name in page for it in (name, here[name])]
    run_it = shlex.join([sys.executable, "-m", "authsvc", command, *changed, *PATIENT])
    parser["profile reports"]["credential_process"] = run_it
    with (tmp_path / "config").open("w") as file:
        parser.write(file)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.chdir(ROOT)

    def keys() -> ReadOnlyCredentials:
        found = Session(profile="reports").get_credentials()
        assert found is not None
        return found.get_frozen_credentials()

    asker.present()
    frozen = await asyncio.to_thread(keys)
    session = asker.aws.sessions[str(frozen.access_key)]
    assert session.secret_token == frozen.token
    assert BUCKETS[1] not in session.policy

    asker.present(ttl_seconds=-60)
    with pytest.raises(CredentialRetrievalError, match="TOKEN_EXPIRED"):
        await asyncio.to_thread(keys)


def batched(words: list[str]) -> list[tuple[str, str]]:
    """Options and their values."""
    return list(zip(words[::2], words[1::2], strict=True))
