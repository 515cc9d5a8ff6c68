"""Clients of the S3 API: with the credentials of the call and no others."""

from __future__ import annotations

import asyncio
import gc
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest
from botocore.exceptions import HTTPClientError
from botocore.loaders import JSONFileLoader

from authsvc.domain.resolution import AwsCredentials, Secret
from mcp_adapter.tools import Call, s3_api
from mcp_adapter.tools import s3 as s3_module
from mcp_adapter.tools.listing import bucket_objects_list
from mcp_adapter.tools.s3 import S3Clients
from mcp_adapter.tools.s3_api import S3Api
from mcp_adapter.tools.slices import Slices
from mcp_adapter.tools.storage import s3_errors
from tests.mcp_adapter.tools.calls import answer, call_of, credentials, refusal
from tests.mcp_adapter.tools.slow_storage import SlowStorage
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.recording import Recording

pytestmark = pytest.mark.anyio


async def listing(call: Call, **arguments: object) -> Any:  # noqa: ANN401 - JSON
    return await answer(bucket_objects_list, call, **{"bucket": "alpha", **arguments})


async def refused(call: Call, **arguments: object) -> str:
    return await refusal(bucket_objects_list, call, **{"bucket": "alpha", **arguments})


async def test_without_credentials_nothing_is_asked(
    clients: S3Clients, seen: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAMBIENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ambient")
    assert "None of your roles" in await refused(call_of(clients, key=None))
    assert seen.calls == []


async def test_the_environment_has_no_say(seen: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAAMBIENT",
        "AWS_SECRET_ACCESS_KEY": "ambient",
        "AWS_SESSION_TOKEN": "ambient",
        "AWS_PROFILE": "no-such-profile",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_CONFIG_FILE": "/nonexistent/config",
    }.items():
        monkeypatch.setenv(name, value)
    clients = S3Clients(endpoint_url=seen.url, region="us-east-1")
    await listing(call_of(clients))
    await clients.close()
    assert {key for key, _ in seen.calls} == {"AKIAREADER"}


async def test_the_environment_names_no_endpoint_and_lends_no_token(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("[default]\nendpoint_url = http://127.0.0.1:9\nregion = eu-west-1\n")
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_CONFIG_FILE": str(config),
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_SESSION_TOKEN": "ambient",
    }.items():
        monkeypatch.setenv(name, value)
    aws_itself = S3Clients(endpoint_url=None, region="us-east-1")
    without_region = AwsCredentials("AKIAREADER", Secret("reader"), None, "", 0.0)
    async with asyncio.timeout(TIMEOUT_SECONDS), aws_itself.client(without_region) as client:
        signed = await client.generate_presigned_url("list_objects_v2", Params={"Bucket": "alpha"})
    await aws_itself.close()
    url = urlsplit(signed)
    assert url.hostname == "alpha.s3.amazonaws.com"
    query = parse_qs(url.query)
    assert "/us-east-1/s3/" in query["X-Amz-Credential"][0]
    assert "X-Amz-Security-Token" not in query


async def test_each_call_is_signed_with_its_own_key(clients: S3Clients, seen: Recording) -> None:
    async def one(number: int) -> None:
        key = ("AKIAREADER", "AKIAANALYST")[number % 2]
        await listing(call_of(clients, key=key), prefix=f"{key}-{number}", max_keys=1)

    async with asyncio.timeout(TIMEOUT_SECONDS):
        await asyncio.gather(*map(one, range(40)))
    assert len(seen.calls) == 40
    for key, path in seen.calls:
        assert f"prefix={key}-" in path


async def test_few_clients_are_kept_and_none_is_closed_in_use(
    clients: S3Clients, seen: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_module, "MAX_CLIENTS", 2)
    async with asyncio.timeout(TIMEOUT_SECONDS), clients.client(credentials("AKIAFIRST")) as first:
        for number in range(5):
            await listing(call_of(clients, key=f"AKIA{number}"), max_keys=1)
        await first.list_objects_v2(Bucket="alpha", MaxKeys=1)
    assert seen.calls[-1][0] == "AKIAFIRST"
    async with clients.client(credentials("AKIAFIRST")) as another:
        assert another is not first
        await another.list_objects_v2(Bucket="alpha", MaxKeys=1)


async def test_a_client_dropped_by_a_cancelled_request_is_closed(
    clients: S3Clients, seen: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_module, "MAX_CLIENTS", 1)
    with anyio.move_on_after(30) as request:
        async with clients.client(credentials("AKIAFIRST")) as first:
            await first.list_objects_v2(Bucket="alpha", MaxKeys=1)
            await listing(call_of(clients, key="AKIASECOND"), max_keys=1)
            request.cancel()
    with pytest.raises(HTTPClientError):
        await first.list_objects_v2(Bucket="alpha", MaxKeys=1)


@pytest.fixture
def models_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files of botocore's that are read from here on."""
    read: list[str] = []
    load_file = JSONFileLoader.load_file

    def noted(loader: JSONFileLoader, path: str) -> object:
        read.append(path)
        return load_file(loader, path)

    monkeypatch.setattr(JSONFileLoader, "load_file", noted)
    return read


async def test_another_client_reads_no_model_again(
    clients: S3Clients, models_read: list[str]
) -> None:
    async with clients.client(credentials("AKIAFIRST")):
        models_read.clear()
    async with clients.client(credentials("AKIAOTHER")):
        assert models_read == []


async def test_no_call_waits_for_the_model(
    clients: S3Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes a tenth of a second, which all other calls would wait, too."""
    readers: set[int] = set()
    load_file = JSONFileLoader.load_file

    def noted(loader: JSONFileLoader, path: str) -> object:
        if (model := load_file(loader, path)) is not None:
            readers.add(threading.get_ident())
        return model

    monkeypatch.setattr(JSONFileLoader, "load_file", noted)
    async with clients.client(credentials()):
        assert readers
    assert threading.get_ident() not in readers


async def test_first_calls_wait_for_one_load(
    clients: S3Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = counted_loads(monkeypatch)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await asyncio.gather(*(listing(call_of(clients), max_keys=1) for _ in range(5)))
    assert len(loads) == 1


async def test_a_load_that_fails_fails_its_call_alone(
    clients: S3Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = counted_loads(monkeypatch, OSError("too many open files"))
    with pytest.raises(OSError, match="too many open files"):
        await listing(call_of(clients))
    assert await listing(call_of(clients), max_keys=1)
    assert len(loads) == 2


def counted_loads(monkeypatch: pytest.MonkeyPatch, *failures: Exception) -> list[None]:
    """Gets an item for each load; the first ones fail."""
    loads: list[None] = []
    load, failing = s3_module._load, iter(failures)

    def counted(endpoint_url: str | None, slices: Slices) -> S3Api:
        loads.append(None)
        for failure in failing:
            raise failure
        return load(endpoint_url, slices)

    monkeypatch.setattr(s3_module, "_load", counted)
    return loads


@pytest.mark.parametrize("is_frozen", [False, True])
async def test_what_is_loaded_is_frozen_as_the_rest_is(clients: S3Clients, is_frozen: bool) -> None:
    gc.unfreeze()
    if is_frozen:
        gc.freeze()
    before = gc.get_freeze_count()
    try:
        async with clients.client(credentials()):
            frozen = gc.get_freeze_count() - before
    finally:
        gc.unfreeze()
    assert (frozen > 0) is is_frozen


async def test_without_a_client_no_exception_is_of_s3(clients: S3Clients) -> None:
    with pytest.raises(ValueError, match="unrelated"), s3_errors(clients):
        raise ValueError("unrelated")


async def test_one_credential_is_one_client(clients: S3Clients) -> None:
    async with clients.client(credentials()) as one, clients.client(credentials()) as other:
        assert one is other
    rotated = AwsCredentials("AKIAREADER", Secret("rotated"), None, "us-east-1", 0.0)
    async with clients.client(rotated) as another:
        assert another is not one


async def test_a_client_goes_when_its_credentials_have_ended(upstream: str) -> None:
    now = 1000.0
    clients = S3Clients(endpoint_url=upstream, region="us-east-1", clock=lambda: now)
    short, longer = credentials("AKIASHORT", expire_time=1100), credentials("AKIALONGER")
    async with clients.client(short) as first, clients.client(longer) as second:
        """Both are kept."""
    async with clients.client(replace(short, expire_time=1200.0)) as later:
        assert later is first
    now = 1150.0
    async with clients.client(credentials("AKIAOTHER")):
        assert len(clients._kept) == 3
    now = 1200.0
    async with clients.client(credentials("AKIAANOTHER")), clients.client(longer) as same:
        assert same is second
        assert len(clients._kept) == 3
    with pytest.raises(HTTPClientError):
        await first.list_buckets()
    await clients.close()


async def test_a_session_token_is_part_of_who_a_client_is(clients: S3Clients) -> None:
    """Two sessions of one role can have one key id, and would then share what they may do."""
    one = replace(credentials(), session_token=Secret("one"))
    other = replace(credentials(), session_token=Secret("other"))
    async with clients.client(one) as first, clients.client(other) as second:
        assert first is not second


async def test_many_calls_of_one_caller_do_not_queue(slow_storage: SlowStorage) -> None:
    """As many as a client has connections are answered only once all of them have arrived."""
    slow_storage.holds = s3_api.MAX_CONNECTIONS
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        slow_storage.clients.client(credentials()) as client,
    ):
        heads = (client.head_bucket(Bucket="alpha") for _ in range(slow_storage.holds))
        await asyncio.gather(*heads)
    assert slow_storage.most_at_once == s3_api.MAX_CONNECTIONS
