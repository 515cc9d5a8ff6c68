"""The bucket tools on a real S3 API, with the credentials of the call and no others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest
from botocore.exceptions import HTTPClientError
from botocore.loaders import JSONFileLoader

from authsvc.resolution import AwsCredentials, Principal, Secret
from demo.s3 import serving_s3
from mcp_adapter.tools import s3 as s3_module
from mcp_adapter.tools.buckets import bucket_objects_list, discover_buckets
from mcp_adapter.tools.call import Call
from mcp_adapter.tools.s3 import S3Clients
from tests.support.recording import Recording, recording

pytestmark = pytest.mark.anyio

KEYS = [
    "a b.txt",
    "a%20b.txt",
    "a+b.txt",
    "data/one.txt",
    "data/two.txt",
    "ünïcödé/✓.txt",
    *(f"many/{number:04}" for number in range(250)),
]
PERMISSIONS = ("s3:ListBucket", "s3:GetObject")


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with serving_s3({"alpha": dict.fromkeys(KEYS, b"x"), "empty-one": {}}) as url:
        yield url


@pytest.fixture
def seen(upstream: str) -> Iterator[Recording]:
    with recording(upstream) as record:
        yield record


@pytest.fixture
async def clients(seen: Recording) -> AsyncIterator[S3Clients]:
    opened = S3Clients(endpoint_url=seen.url, region="us-east-1")
    yield opened
    await opened.close()


def credentials(name: str = "AKIAREADER") -> AwsCredentials:
    return AwsCredentials(name, Secret(f"secret-of-{name}"), None, "us-east-1", 0.0)


def call_of(
    clients: S3Clients,
    *,
    buckets: tuple[str, ...] = ("alpha", "empty-one", "missing-one"),
    permissions: tuple[str, ...] = PERMISSIONS,
    key: str | None = "AKIAREADER",
) -> Call:
    who = Principal("idp", "alice", 0.0, buckets=buckets, permissions=permissions)
    return Call(who, credentials(key) if key else None, clients)


async def listing(call: Call, **arguments: object) -> Any:  # noqa: ANN401 - JSON
    async with asyncio.timeout(30):
        result = await bucket_objects_list.run(call, {"bucket": "alpha", **arguments})
    assert not result.is_error, result
    return result.structured_content


async def refusal(call: Call, **arguments: object) -> str:
    async with asyncio.timeout(30):
        result = await bucket_objects_list.run(call, {"bucket": "alpha", **arguments})
    assert result.is_error
    assert result.structured_content is None
    text: str = result.content[0].text  # type: ignore[union-attr] # our errors are text
    return text


async def test_buckets_come_from_the_claims(clients: S3Clients, seen: Recording) -> None:
    result = await discover_buckets.run(call_of(clients, buckets=("zeta", "alpha")), {})
    assert result.structured_content == {
        "buckets": [
            {"name": "zeta", "s3_uri": "s3://zeta", "permissions": list(PERMISSIONS)},
            {"name": "alpha", "s3_uri": "s3://alpha", "permissions": list(PERMISSIONS)},
        ]
    }
    assert seen.calls == []


async def test_an_object_has_all_that_is_promised(clients: S3Clients) -> None:
    page = await listing(call_of(clients), prefix="data/", max_keys=1)
    (item,) = page["objects"]
    assert item.pop("last_modified").endswith("Z")
    assert item == {
        "key": "data/one.txt",
        "s3_uri": "s3://alpha/data/one.txt",
        "size": 1,
        "etag": "9dd4e461268c8034f5c8564e155c67a6",
        "storage_class": "STANDARD",
    }
    assert (page["bucket"], page["prefix"], page["truncated"]) == ("alpha", "data/", True)


@pytest.mark.parametrize("max_keys", [1000, 100, 7])
async def test_pages_hold_every_key_once(clients: S3Clients, max_keys: int) -> None:
    keys: list[str] = []
    more: dict[str, object] = {}
    while True:
        page = await listing(call_of(clients), max_keys=max_keys, **more)
        keys += [item["key"] for item in page["objects"]]
        assert len(keys) <= len(KEYS)
        assert len(page["objects"]) <= max_keys
        assert page["truncated"] == (page["next_token"] is not None)
        if not page["truncated"]:
            break
        more = {"continuation_token": page["next_token"]}
    assert keys == sorted(KEYS, key=str.encode)


async def test_a_page_has_a_hundred_unless_asked(clients: S3Clients) -> None:
    assert len((await listing(call_of(clients)))["objects"]) == 100


@pytest.mark.parametrize(
    ("bucket", "count"),
    [("alpha", 100), ("s3://alpha", 100), ("s3://alpha/", 100), (" s3://alpha/data/ ", 2)],
)
async def test_a_bucket_has_many_spellings(clients: S3Clients, bucket: str, count: int) -> None:
    assert len((await listing(call_of(clients), bucket=bucket))["objects"]) == count


@pytest.mark.parametrize(
    "bucket", ["other", "s3://other/alpha", "alphabet", "alph", "ALPHA", "alpha.", "../alpha"]
)
async def test_a_bucket_that_the_claims_do_not_name_is_refused_before_s3_is_asked(
    clients: S3Clients, seen: Recording, bucket: str
) -> None:
    assert "token does not name" in await refusal(call_of(clients), bucket=bucket)
    assert seen.calls == []


async def test_a_refusal_is_no_oracle(clients: S3Clients) -> None:
    call = call_of(clients, buckets=("else",))
    there, absent = await refusal(call, bucket="alpha"), await refusal(call, bucket="nowhere")
    assert there.replace("alpha", "X") == absent.replace("nowhere", "X")


async def test_a_missing_permission_is_named(clients: S3Clients, seen: Recording) -> None:
    assert "s3:ListBucket" in await refusal(call_of(clients, permissions=("s3:GetObject",)))
    assert seen.calls == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_keys": 0},
        {"max_keys": 1001},
        {"max_keys": "many"},
        {"bucket": 7},
        {"bucket": ""},
        {"bucket": "s3://"},
        {"bucket": "a\nb"},
        {"prefix": "x" * 1025},
        {"continuation_token": 7},
        {"surprise": 1},
    ],
    ids=repr,
)
async def test_bad_arguments_are_explained(
    clients: S3Clients, seen: Recording, arguments: dict[str, object]
) -> None:
    (name,) = arguments
    assert name in await refusal(call_of(clients), **arguments)
    assert seen.calls == []


async def test_what_s3_refuses_is_an_error_with_its_cause(clients: S3Clients) -> None:
    assert "NoSuchBucket" in await refusal(call_of(clients), bucket="missing-one")


async def test_an_empty_bucket_is_not_an_error(clients: S3Clients) -> None:
    page = await listing(call_of(clients), bucket="empty-one")
    assert (page["objects"], page["truncated"], page["next_token"]) == ([], False, None)


async def test_s3_out_of_reach_is_an_error() -> None:
    nowhere = S3Clients(endpoint_url="http://127.0.0.1:9", region="us-east-1")
    assert "could not be asked" in await refusal(call_of(nowhere))
    await nowhere.close()


async def test_without_credentials_nothing_is_asked(
    clients: S3Clients, seen: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAMBIENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ambient")
    assert "None of your roles" in await refusal(call_of(clients, key=None))
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
    async with asyncio.timeout(30), aws_itself.client(without_region) as client:
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

    async with asyncio.timeout(60):
        await asyncio.gather(*map(one, range(40)))
    assert len(seen.calls) == 40
    for key, path in seen.calls:
        assert f"prefix={key}-" in path


async def test_few_clients_are_kept_and_none_is_closed_in_use(
    clients: S3Clients, seen: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_module, "MAX_CLIENTS", 2)
    async with asyncio.timeout(60), clients.client(credentials("AKIAFIRST")) as first:
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


async def test_another_client_reads_no_model_again(
    clients: S3Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with clients.client(credentials("AKIAFIRST")):
        """The models are read."""
    read: list[str] = []
    load_file = JSONFileLoader.load_file

    def noted(loader: JSONFileLoader, path: str) -> object:
        read.append(path)
        return load_file(loader, path)

    monkeypatch.setattr(JSONFileLoader, "load_file", noted)
    async with clients.client(credentials("AKIAOTHER")):
        assert read == []


async def test_one_credential_is_one_client(clients: S3Clients) -> None:
    async with clients.client(credentials()) as one, clients.client(credentials()) as other:
        assert one is other
    rotated = AwsCredentials("AKIAREADER", Secret("rotated"), None, "us-east-1", 0.0)
    async with clients.client(rotated) as another:
        assert another is not one
