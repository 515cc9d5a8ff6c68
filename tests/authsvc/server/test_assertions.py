"""Real processes agree on the keys of assertions: replicas over Valkey, workers, the command."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from authsvc.assertions.key_ring import DOCUMENT_NAME, MAX_AGE_SECONDS, KeyRing
from authsvc.assertions.key_set import DAY_SECONDS
from authsvc.assertions.sealing import FileSeal
from authsvc.gateways.ext_authz import SERVICE_NAME
from authsvc.server.running import running
from authsvc.stores.redis.server import server_at
from authsvc.stores.redis.store import RedisStore
from tests.authsvc.assertions.test_sealing import OTHER, secret_file
from tests.support import commands
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.processes import ROOT, Process, spawn
from tests.support.service import settings_for
from tests.support.shared_valkey import fresh_prefix, shared_valkey
from tests.support.tokens import RESOURCE, IdentityProvider
from tests.support.valkey import free_port

pytestmark = pytest.mark.anyio

PATH = "/.well-known/jwks.json"


def configuration(folder: Path, store: str, name: str = "authsvc", more: str = "") -> Path:
    """A file with ``[assertions]``."""
    idp = IdentityProvider(time.time)
    path = folder / f"{name}.toml"
    path.write_text(
        f"""
listen = "127.0.0.1:0"
resources = ["{RESOURCE}"]
drain_seconds = 0
{more}
[store]
{store}
[[issuers]]
issuer = "{idp.issuer}"
algorithms = ["HS256"]
secret_file = "{idp.write_secret(folder)}"
[assertions]
issuer = "https://authsvc.example"
listen = "127.0.0.1:0"
encryption_key_file = "{folder}/encryption.key"
"""
    )
    return path


def in_valkey(prefix: str) -> str:
    return f'kind = "redis"\nurl = "{shared_valkey().url}"\nprefix = "{prefix}"'


def published(address: str) -> dict[str, Any]:
    answer = httpx2.get(f"http://{address}{PATH}", timeout=TIMEOUT_SECONDS)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def address_of(process: Process) -> str:
    return str(process.wait_for("keys of assertions at", TIMEOUT_SECONDS)["address"])


def until_published(address: str, kids: list[str]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while [key["kid"] for key in published(address)["keys"]] != kids:
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)  # another process is at work


def test_replicas_that_start_at_once_publish_one_set(tmp_path: Path) -> None:
    secret_file(tmp_path)
    config = configuration(tmp_path, in_valkey(fresh_prefix()))
    with ExitStack() as stack:
        replicas = [
            stack.enter_context(spawn("authsvc", "serve", "--config", str(config)))
            for _ in range(3)
        ]
        sets = [published(address_of(replica)) for replica in replicas]
    assert len(sets[0]["keys"]) == 1
    assert sets[0] == sets[1] == sets[2]


async def test_the_command_replaces_the_keys_of_running_replicas(tmp_path: Path) -> None:
    secret_file(tmp_path)
    config = configuration(tmp_path, f'path = "{tmp_path}/authsvc.db"')
    with ExitStack() as stack:
        process = stack.enter_context(spawn("authsvc", "serve", "--config", str(config)))
        address = address_of(process)
        before = published(address)
        ran = await commands.run("assertions", "rotate", "--config", config, "--json")
        assert (ran.code, ran.err) == (0, "")
        kid = ran.json()["key_id"]
        assert kid != before["keys"][0]["kid"]
        await asyncio.to_thread(until_published, address, [kid])
        assert "keys were read" in process.output


async def test_the_command_mends_a_lost_file(tmp_path: Path) -> None:
    secret_file(tmp_path)
    config = configuration(tmp_path, f'path = "{tmp_path}/authsvc.db"')
    first = await commands.run("assertions", "rotate", "--config", config)
    assert first.code == 0
    assert "signs from now on. All others are withdrawn." in first.out
    secret_file(tmp_path, OTHER)
    with ExitStack() as stack:
        process = stack.enter_context(spawn("authsvc", "serve", "--config", str(config)))
        assert process.wait(TIMEOUT_SECONDS) == 2
        assert "assertions.encryption_key_file" in process.output
        assert "does not decrypt the stored keys" in process.output
    ran = await commands.run("assertions", "rotate", "--config", config, "--json")
    with ExitStack() as stack:
        process = stack.enter_context(spawn("authsvc", "serve", "--config", str(config)))
        (key,) = published(address_of(process))["keys"]
    assert key["kid"] == ran.json()["key_id"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda text: text.partition("[assertions]")[0], "assertions: is not set"),
        (
            lambda text: text.replace('path = "', 'kind = "memory"\n# "').partition(
                "encryption_key_file"
            )[0],
            "store.kind: is 'memory'",
        ),
        (lambda text: text.replace("encryption.key", "none.key"), "encryption_key_file: "),
    ],
    ids=["unset", "memory", "no file"],
)
async def test_the_command_says_why_it_does_nothing(
    tmp_path: Path,
    change: Callable[[str], str],
    fault: str,
) -> None:
    secret_file(tmp_path)
    config = configuration(tmp_path, f'path = "{tmp_path}/authsvc.db"')
    config.write_text(change(config.read_text()))
    ran = await commands.run("assertions", "rotate", "--config", config)
    assert ran.code == 2
    assert fault in ran.err


async def test_the_command_says_that_the_store_is_unavailable(tmp_path: Path) -> None:
    secret_file(tmp_path)
    store = 'kind = "redis"\nurl = "redis://127.0.0.1:1"'
    ran = await commands.run("assertions", "rotate", "--config", configuration(tmp_path, store))
    assert ran.code == 3
    assert "STORE_UNAVAILABLE" in ran.err


async def test_check_config_checks_the_file(tmp_path: Path) -> None:
    path = secret_file(tmp_path)
    config = configuration(tmp_path, f'path = "{tmp_path}/authsvc.db"')
    assert (await commands.run("check-config", "--config", config)).code == 0
    path.chmod(0o644)
    ran = await commands.run("check-config", "--config", config)
    assert ran.code == 2
    assert f"assertions.encryption_key_file: {path} is open to all users (mode 644)" in ran.err


def test_workers_publish_one_set_on_one_port(tmp_path: Path) -> None:
    secret_file(tmp_path)
    port = free_port()
    config = configuration(tmp_path, f'path = "{tmp_path}/authsvc.db"', more="workers = 3")
    config.write_text(
        config.read_text().replace(
            'issuer = "https://authsvc.example"\nlisten = "127.0.0.1:0"',
            f'issuer = "https://authsvc.example"\nlisten = "127.0.0.1:{port}"',
        )
    )
    with ExitStack() as stack:
        process = stack.enter_context(spawn("authsvc", "serve", "--config", str(config)))
        process.wait_for("listening on", TIMEOUT_SECONDS)
        assert process.output.count(f"127.0.0.1:{port}/.well-known/jwks.json") == 3
        sets = [published(f"127.0.0.1:{port}") for _ in range(20)]
    assert all(it == sets[0] for it in sets)


# A replica that dies between two steps.

DYING = """
import asyncio, os, signal, sys, time
from pathlib import Path
from authsvc.assertions.key_ring import KeyRing
from authsvc.assertions.sealing import FileSeal
from authsvc.stores.redis.server import server_at
from authsvc.stores.redis.store import RedisStore

url, prefix, file, step = sys.argv[1:]

def die(at):
    if at == step:
        os.kill(os.getpid(), signal.SIGKILL)

class Dying:
    def __init__(self, store):
        self.store = store
    async def document(self, name):
        found = await self.store.document(name)
        die("read")
        return found
    async def confirm_document(self, name):
        await self.store.confirm_document(name)
    async def put_document(self, name, document):
        die("encrypted")
        written = await self.store.put_document(name, document)
        die("written")
        return written

async def main():
    store = await RedisStore.open(server_at(url), prefix=prefix, unauthenticated_cap=1)
    await KeyRing(
        Dying(store), FileSeal(Path(file)), rotation_seconds=1e6, clock=time.time
    ).load()

asyncio.run(main())
"""


@asynccontextmanager
async def rings(prefix: str, file: Path, count: int) -> AsyncIterator[list[KeyRing]]:
    """Replicas, each with connections of its own."""
    async with AsyncExitStack() as closing:
        made = []
        for _ in range(count):
            server = server_at(shared_valkey().url)
            store = await RedisStore.open(server, prefix=prefix, unauthenticated_cap=1)
            closing.push_async_callback(store.close)
            made.append(
                KeyRing(store, FileSeal(file), rotation_seconds=30 * DAY_SECONDS, clock=time.time)
            )
        yield made


async def test_replicas_that_race_agree(tmp_path: Path) -> None:
    file = secret_file(tmp_path)
    for _ in range(10):
        async with rings(fresh_prefix(), file, 3) as replicas:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await asyncio.gather(*(it.load() for it in replicas))
            assert len({it.jwks() for it in replicas}) == 1


@pytest.mark.parametrize("step", ["read", "encrypted", "written"])
async def test_a_replica_that_dies_leaves_keys_or_none(tmp_path: Path, step: str) -> None:
    file, prefix = secret_file(tmp_path), fresh_prefix()
    dying = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DYING, shared_valkey().url, prefix, str(file), step, cwd=ROOT
    )
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert await dying.wait() == -signal.SIGKILL
    async with rings(prefix, file, 3) as replicas:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await asyncio.gather(*(it.load() for it in replicas))
        stored = await replicas[0]._store.document(DOCUMENT_NAME)
        assert stored is not None
        assert stored.revision == 1
        assert len({it.jwks() for it in replicas}) == 1
        (key,) = json.loads(replicas[0].jwks())["keys"]
        assert replicas[0].signing_key(time.time()).kid == key["kid"]


# Health.


async def test_without_keys_the_service_for_gateways_alone_is_not_serving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authsvc.server.housekeeping.REFRESH_SECONDS", 3_600.0)
    clock = Clock()
    settings = settings_for(
        tmp_path,
        IdentityProvider(clock),
        assertions={"issuer": "https://authsvc.example", "listen": "127.0.0.1:0"},
        ext_authz={},
    )
    async with (
        running(settings, clock=clock) as address,
        aio.insecure_channel(address) as channel,
        asyncio.timeout(TIMEOUT_SECONDS),
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)  # its stubs are without methods
        watch = health.Watch(HealthCheckRequest(service=SERVICE_NAME))
        assert (await watch.read()).status == HealthCheckResponse.SERVING
        clock.advance(MAX_AGE_SECONDS + 1)
        assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
        for name in ("", "authsvc.v1.AuthService"):
            answer = await health.Check(HealthCheckRequest(service=name))
            assert answer.status == HealthCheckResponse.SERVING
        watch.cancel()
