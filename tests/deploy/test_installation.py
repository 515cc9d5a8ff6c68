"""What deploy/ describes, run without containers: two replicas with the files of deploy/config over
a real Valkey with its users, certificates and tokens as ``make_secrets.py`` makes them, and the
health check that probes run.

What differs: the issuer and the addresses. The Valkey of the tests is built without TLS; where TLS
is what is tested, a proxy in front of it speaks it.
"""

from __future__ import annotations

import asyncio
import datetime
import errno
import hashlib
import json
import os
import re
import runpy
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex
from types import MappingProxyType

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from redis.exceptions import AuthenticationError, NoPermissionError

from authsvc.access.service_tokens import ServiceTokenFile
from authsvc.client import AdminClient, AuthClient, ClientTls
from authsvc.common.settings import load
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.events import EventType, RecordFilter, SessionEvent
from authsvc.domain.record import Grant, Record
from authsvc.domain.revocation import EVERYONE, NotBefore
from authsvc.net.certificates import SignedCertificate
from authsvc.server.config import IssuerSettings, Settings
from authsvc.server.running import running
from authsvc.stores.redis.server import RedisServer
from authsvc.stores.redis.store import RedisStore
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.handshakes import handshake
from tests.support.processes import spawn
from tests.support.sockets import serving_tcp
from tests.support.tokens import IdentityProvider
from tests.support.valkey import Valkey, eventually, free_port, single

pytestmark = pytest.mark.anyio

DEPLOY = Path(__file__).parents[2] / "deploy"
REPLICAS = ("127.0.0.1", "127.0.0.2")
OPERATOR = "valkey-operator-password"


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What make_secrets.py makes."""
    folder = tmp_path_factory.mktemp("deployment") / "secrets"
    make_secrets(folder)
    return folder


def make_secrets(folder: Path, *arguments: str, errors: bool = False) -> str:
    made = run_make_secrets(str(folder), *arguments)
    made.check_returncode()
    return made.stderr + made.stdout if errors else made.stdout


def run_make_secrets(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = str(DEPLOY / "make_secrets.py")
    return subprocess.run(
        [sys.executable, "-W", "error", script, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )


def secret(secrets: Path, name: str) -> str:
    return (secrets / name).read_text().strip()


@pytest.fixture(scope="module")
def valkey(secrets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A server with the users and the limits of deploy/config."""
    config = (DEPLOY / "config" / "valkey.conf").read_text()
    kept = re.findall(r"^(appendonly|appendfsync|save|maxmemory\S*) (.+)$", config, re.MULTILINE)
    limits = [word for name, value in kept for word in (f"--{name}", value.strip('"'))]
    login = {"username": "operator", "password": secret(secrets, OPERATOR)}
    users = ("--aclfile", str(secrets / "users.acl"))
    with single(tmp_path_factory.mktemp("valkey"), *limits, *users, login=login) as server:
        yield server


def settings_of(secrets: Path, valkey: Valkey, idp: IdentityProvider, listen: str) -> Settings:
    """Settings of deploy/config, with this machine's addresses and issuer."""
    text = (DEPLOY / "config" / "authsvc.toml").read_text()
    config = secrets.parent / "authsvc.toml"
    config.write_text(text.replace("/run/secrets/", f"{secrets}/"))
    settings = load(Settings, config)
    issuer = IssuerSettings(
        issuer=idp.issuer, algorithms=("HS256",), secret_file=idp.write_secret(secrets.parent)
    )
    url = valkey.url.replace("redis://", "redis://authsvc@")
    changes = {"url": url, "ca_file": None, "timeout_seconds": TIMEOUT_SECONDS}
    store = settings.store.model_copy(update=changes)
    assert settings.metrics is not None
    metrics = settings.metrics.model_copy(update={"listen": "127.0.0.1:0"})
    return settings.model_copy(
        update={
            "listen": listen,
            "metrics": metrics,
            "issuers": (issuer,),
            "store": store,
            "drain_seconds": 0.0,
        }
    )


@dataclass
class Installation:
    """Two replicas on one port, at two addresses of one name.

    Attributes:
        client: the adapter's.
        port: of both replicas.
        resource: the adapter's.
    """

    client: AuthClient
    port: int
    resource: str


@asynccontextmanager
async def installed(
    secrets: Path, valkey: Valkey, idp: IdentityProvider
) -> AsyncIterator[Installation]:
    port = free_port()
    ca_file = secrets / "ca.crt"

    async def look_up(host: str, port: int) -> Sequence[str]:
        assert host == "authsvc"
        return REPLICAS

    async with AsyncExitStack() as stack:
        for host in REPLICAS:
            settings = settings_of(secrets, valkey, idp, f"{host}:{port}")
            await stack.enter_async_context(running(settings))
        client = AuthClient(
            f"dns:///authsvc:{port}",
            deadline_seconds=TIMEOUT_SECONDS,
            tls=ClientTls(ca_file, service_token_file=secrets / "adapter-token"),
            look_up=look_up,
        )
        await stack.enter_async_context(client)
        yield Installation(client, port, settings.callers[0].resources[0])


async def test_sessions_live_and_end_on_all_replicas(secrets: Path, valkey: Valkey) -> None:
    idp = IdentityProvider(time.time)
    async with installed(secrets, valkey, idp) as here:
        token = idp.token(aud=here.resource)
        made = await here.client.create(token, resource=here.resource)
        assert made.session is not None
        session_id = made.session.id
        for _ in range(8):
            again = await here.client.resolve(session_id, token, resource=here.resource)
            assert again.principal is not None
            assert again.principal.subject == "alice"
        await here.client.revoke(session_id)
        for _ in range(8):
            with pytest.raises(AuthError) as refusal:
                await here.client.resolve(session_id, token, resource=here.resource)
            assert refusal.value.reason is Reason.SESSION_REVOKED


async def test_an_operator_revokes_as_the_page_says(
    secrets: Path, valkey: Valkey, tmp_path: Path
) -> None:
    idp = IdentityProvider(time.time, "https://idp.example.com")
    page = (DEPLOY.parent / "docs" / "operations.md").read_text()
    (script,) = re.findall(r"```python\n(.+?)```", page, re.DOTALL)
    async with installed(secrets, valkey, idp) as here:
        token = idp.token(aud=here.resource)
        made = await here.client.create(token, resource=here.resource)
        assert made.session is not None
        drill = tmp_path / "drill.py"
        drill.write_text(
            # "authsvc" has no address here; the certificate has this name, too.
            script.replace("/run/secrets", str(secrets)).replace(
                "authsvc:50051", f"localhost:{here.port}"
            )
        )
        done = await anyio.run_process([sys.executable, "-W", "error", str(drill)])
        listed, revoked = done.stdout.decode().splitlines()
        assert listed.startswith(made.session.id[:8])
        assert "session_count=1" in revoked
        with pytest.raises(AuthError) as refusal:
            await here.client.resolve(made.session.id, token, resource=here.resource)
        assert refusal.value.reason is Reason.TOKEN_REVOKED


def record(session_id: str, now: float, subject: str = "carol") -> Record:
    grant = Grant(os.urandom(32), now, now + 600, "", "client")
    grants = MappingProxyType({"https://mcp.example.com/mcp": grant} if subject else {})
    issuer = "https://idp.example.com" if subject else ""
    return Record(session_id, 1, now, now, now + 600, issuer, subject, grants)


async def test_the_user_of_authsvc_may_do_all_that_the_store_does(
    secrets: Path, valkey: Valkey
) -> None:
    server = RedisServer(
        nodes=(valkey.address,),
        username="authsvc",
        password_file=secrets / "valkey-password",
        timeout_seconds=TIMEOUT_SECONDS,
    )
    with valkey.client() as operator:
        operator.execute_command("ACL", "LOG", "RESET")
    # A cap of one: the second anonymous record pushes the first one out.
    store = await RedisStore.open(server, unauthenticated_cap=1)
    try:
        with anyio.fail_after(TIMEOUT_SECONDS):
            await everything(store)
    finally:
        await store.close()
    with valkey.client() as operator:
        denied = operator.execute_command("ACL", "LOG")
        # The probe's refusals of another test are not the store's.
        assert [entry for entry in denied if "authsvc" in str(entry)] == []


async def everything(store: RedisStore) -> None:
    """Each method of a store, in each of its ways."""
    now = time.time()
    first, anonymous = record("first", now), record("anonymous", now, subject="")
    for item in (first, anonymous, record("another", now + 1, subject="")):
        assert await store.put(item, EventType.CREATED)
    assert await store.get("anonymous") is None
    revoked = replace(first, revision=2, revoke_time=now)
    assert await store.put(revoked, EventType.REVOKED)
    assert await store.put(revoked, EventType.REVOKED) is None
    await store.touch(replace(revoked, last_seen_time=now + 1))
    await store.append(SessionEvent(EventType.SUBJECT_MISMATCH, now, revoked))
    everybody = await store.page(RecordFilter(), size=10)
    assert {item.id for item in everybody.records} >= {"first", "another"}
    hers = await store.page(RecordFilter(issuer=first.issuer, subject="carol"), size=10)
    assert [item.id for item in hers.records] == ["first"]
    await store.set_not_before(NotBefore(now, now))
    assert list(await store.get_not_befores([EVERYONE]))
    await store.delete_not_befores(now + 1)
    await store.remove(revoked)
    assert await store.get("first") is None
    await store.sweep(now + 10_000)
    assert await store.get("another") is None
    watching = store.watch("0-0")
    logged = await anext(watching)
    assert logged.event.record is not None
    await watching.aclose()


@asynccontextmanager
async def tls_in_front_of(valkey: Valkey, secrets: Path) -> AsyncIterator[int]:
    """A port that speaks TLS for a Valkey that does not."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(secrets / "valkey.crt", secrets / "valkey.key")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(*valkey.address)
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    async with serving_tcp(relay, tls=context) as (_, port):
        yield port


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError), closing(writer):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.mark.parametrize(("host", "is_trusted"), [("valkey", True), ("somebody-else", False)])
async def test_authsvc_talks_to_valkey_and_to_nobody_in_its_place(
    secrets: Path, valkey: Valkey, monkeypatch: pytest.MonkeyPatch, host: str, is_trusted: bool
) -> None:
    """The store's settings as they are in deploy/config: TLS, its authority, the user."""
    real = socket.getaddrinfo

    def here(name: str, *rest: int) -> object:
        return real("127.0.0.1" if name == host else name, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", here)
    text = (DEPLOY / "config" / "authsvc.toml").read_text()
    async with tls_in_front_of(valkey, secrets) as port:
        config = secrets.parent / "tls.toml"
        config.write_text(
            text.replace("/run/secrets", str(secrets)).replace("@valkey:6379", f"@{host}:{port}")
        )
        server = load(Settings, config).store.redis_server()
        server = replace(server, timeout_seconds=TIMEOUT_SECONDS)
        assert (server.username, server.tls) == ("authsvc", True)
        store = await RedisStore.open(server, unauthenticated_cap=10)
        try:
            if is_trusted:
                assert await store.get("nobody") is None
            else:
                with pytest.raises(AuthError, match="certificate") as refusal:
                    await store.get("nobody")
                assert refusal.value.reason is Reason.STORE_UNAVAILABLE
        finally:
            await store.close()


async def test_others_may_do_next_to_nothing(secrets: Path, valkey: Valkey) -> None:
    with (
        pytest.raises(AuthenticationError),
        valkey.client(username=None, password=None, retry=None) as anybody,
    ):
        anybody.ping()
    with valkey.client(username="probe", password="-") as probe:
        assert probe.ping()
        for command in (("GET", "authsvc:{0}:s:first"), ("INFO",), ("CONFIG", "GET", "*")):
            with pytest.raises(NoPermissionError):
                probe.execute_command(*command)
    with valkey.client(
        username="exporter", password=secret(secrets, "valkey-exporter-password")
    ) as exporter:
        assert exporter.ping()
        assert "maxmemory" in exporter.info("all")
        for command in (
            ("GET", "authsvc:{0}:s:first"),
            ("SLOWLOG", "GET"),
            ("CONFIG", "GET", "*"),
            ("CLIENT", "LIST"),
            ("SCAN", "0"),
        ):
            with pytest.raises(NoPermissionError):
                exporter.execute_command(*command)
    with valkey.client() as operator:
        for command in (("SET", "authsvc:{0}:s:first", "x"), ("FLUSHALL",), ("SHUTDOWN",)):
            with pytest.raises(NoPermissionError):
                operator.execute_command(*command)


async def test_a_password_is_changed_while_everything_runs(
    secrets: Path, valkey: Valkey, tmp_path: Path
) -> None:
    """The drill of docs/operations.md: both passwords are good, then the new one alone."""
    users, password_file = secrets / "users.acl", tmp_path / "password"
    before = users.read_text()
    password_file.write_text(secret(secrets, "valkey-password"))
    server = RedisServer(nodes=(valkey.address,), username="authsvc", password_file=password_file)
    (old,) = re.findall(r"user authsvc on (#[0-9a-f]{64})", before)
    new = "#4c0d43c6c1c71de0dbc9a7ab2ac0f6aab3dfb9a8a0e5fd8ecda1df0d9eb57d0e"
    with valkey.client() as operator:
        try:
            users.write_text(before.replace(old, f"{old} {new}"))
            operator.execute_command("ACL", "LOAD")
            store = await RedisStore.open(server, prefix="authsvc", unauthenticated_cap=10)
            assert await store.get("nobody") is None
            await store.close()
            users.write_text(before.replace(old, new))
            operator.execute_command("ACL", "LOAD")
            store = await RedisStore.open(server, prefix="authsvc", unauthenticated_cap=10)
            with pytest.raises(AuthError) as refusal:
                await store.get("nobody")
            assert refusal.value.reason is Reason.STORE_UNAVAILABLE
            await store.close()
        finally:
            users.write_text(before)
            operator.execute_command("ACL", "LOAD")


def test_a_backup_brings_back_what_it_holds(secrets: Path, tmp_path: Path) -> None:
    """The drill of docs/operations.md, on a server of its own."""
    login = {"username": "operator", "password": secret(secrets, OPERATOR)}
    users = ("--aclfile", str(secrets / "users.acl"))
    with single(tmp_path, *users, login=login) as server, server.client() as operator:
        with server.client(
            username="authsvc", password=secret(secrets, "valkey-password")
        ) as writer:
            writer.set("authsvc:{0}:s:kept", "record")
        before = operator.lastsave()
        operator.bgsave()
        eventually(lambda: operator.info("persistence")["rdb_bgsave_in_progress"] == 0, "a backup")
        assert operator.lastsave() >= before
        backup = (server.folder / "dump.rdb").read_bytes()
    volume = tmp_path / "restored"
    volume.mkdir()
    (volume / "dump.rdb").write_bytes(backup)
    restored = Valkey(volume, *users, "--appendonly", "no", login=login)
    restored.start()
    try:
        with restored.client() as operator:
            operator.config_set("appendonly", "yes")
            eventually(
                lambda: operator.info("persistence")["aof_rewrite_in_progress"] == 0, "a rewrite"
            )
    finally:
        restored.end()
    again = Valkey(volume, *users, login=login)
    again.start()
    try:
        with again.client(
            username="authsvc", password=secret(secrets, "valkey-password")
        ) as reader:
            assert reader.get("authsvc:{0}:s:kept") == "record"
    finally:
        again.end()


# Secrets.


def test_digests_are_those_of_the_tokens_and_more_callers_get_theirs(tmp_path: Path) -> None:
    names = ["adapter", "console", "operator"]
    make_secrets(tmp_path)
    digests = {name: ServiceTokenFile(tmp_path / f"{name}-token.sha256").digest() for name in names}
    for name in names:
        token = secret(tmp_path, f"{name}-token")
        assert digests[name] == hashlib.sha256(token.encode()).digest()
    made = make_secrets(tmp_path, "--caller", "wiki", "--caller", "files-2")
    new = "files-2-token, files-2-token.sha256, wiki-token, wiki-token.sha256"
    assert made.endswith(f": {new}\n")
    assert ServiceTokenFile(tmp_path / "wiki-token.sha256").digest()
    # A rotation: the second token beside the first, then in its place.
    second = tmp_path / "wiki-token-2"
    second.write_text(f"{token_hex(32)}\n")
    make_secrets(tmp_path)
    (tmp_path / "wiki-token").write_text(second.read_text())
    second.unlink()
    make_secrets(tmp_path)
    first, other = (
        ServiceTokenFile(tmp_path / f"wiki-token{it}.sha256").digest() for it in ("", "-2")
    )
    assert first == other
    with pytest.raises(subprocess.CalledProcessError):
        make_secrets(tmp_path, "--caller", "../wiki")


def test_the_exporter_finds_its_password(secrets: Path) -> None:
    passwords = json.loads((secrets / "valkey-exporter.json").read_text())
    # redis_exporter looks its address up with the user of --redis.user in it.
    assert passwords == {
        "rediss://exporter@valkey:6379": secret(secrets, "valkey-exporter-password")
    }


def test_secrets_are_made_once(secrets: Path) -> None:
    assert make_secrets(secrets).endswith(": nothing new\n")


def test_a_secret_that_is_emptied_is_made_anew_in_its_place(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    kept, gone = (tmp_path / "ca.crt").read_bytes(), (tmp_path / "valkey-password").read_text()
    users = (tmp_path / "users.acl").read_text()
    inode = (tmp_path / "valkey-password").stat().st_ino
    (tmp_path / "valkey-password").write_text("")
    (tmp_path / "authsvc.crt").write_text("")
    assert make_secrets(tmp_path).endswith(": authsvc.crt, valkey-password\n")
    assert secret(tmp_path, "valkey-password") not in {"", gone.strip()}
    assert (tmp_path / "valkey-password").stat().st_ino == inode
    assert (tmp_path / "users.acl").read_text() != users
    assert (tmp_path / "ca.crt").read_bytes() == kept
    check_certificate(tmp_path, "authsvc")


def test_another_authority_signs_all_certificates_anew(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    (tmp_path / "ca.crt").write_text("")
    make_secrets(tmp_path)
    for name in ("authsvc", "valkey"):
        check_certificate(tmp_path, name)
    check_certificate(tmp_path, "console", asked="localhost")


def test_the_authority_is_replaced_in_steps_that_keep_their_order(tmp_path: Path) -> None:
    """What connects at each step is tested in ``tests/authsvc/net/test_authority_rotation.py``."""
    make_secrets(tmp_path)
    old = (tmp_path / "ca.crt").read_bytes()

    def step(name: str) -> bool:
        """Whether it is done. Each program's certificate leads to an authority in ca.crt."""
        is_done = run_make_secrets("--rotate-ca", name, str(tmp_path)).returncode == 0
        for server in ("authsvc", "valkey"):
            check_certificate(tmp_path, server)
        return is_done

    assert not step("issue")
    assert not step("finish")
    assert step("start")
    both = (tmp_path / "ca.crt").read_bytes()
    assert both.startswith(old)
    assert not step("start")
    assert not step("finish")
    (tmp_path / "valkey.crt").write_text("")  # made anew meanwhile: by the new authority
    assert make_secrets(tmp_path).endswith(": valkey.crt\n")
    assert step("issue")
    assert (tmp_path / "ca.crt").read_bytes() == both
    assert step("finish")
    assert (tmp_path / "ca.crt").read_bytes() == both.removeprefix(old)
    assert not step("finish")
    assert make_secrets(tmp_path).endswith(": nothing new\n")


def test_a_rotation_that_is_interrupted_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it stops, as on a full disk: the authority's key stays one of ``ca.crt``."""
    script = runpy.run_path(str(DEPLOY / "make_secrets.py"))
    make, rotate = script["make"], script["rotate_authority"]
    written: list[Path] = []
    at_most = 0
    write_bytes = Path.write_bytes

    def write(path: Path, content: bytes) -> int:
        if len(written) == at_most:
            write_bytes(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        return write_bytes(path, content)

    for at_most in range(3):
        folder = tmp_path / str(at_most)
        make(folder)
        old = (folder / "ca.crt").read_bytes()
        # What is written in place has been written beside it: a disk has room for it.
        is_in_place = at_most == 1
        with monkeypatch.context() as patched:
            patched.setattr(Path, "write_bytes", write)
            written.clear()
            with pytest.raises(OSError, match="No space left"):
                rotate(folder, "start")
        if is_in_place:
            (folder / "ca.crt").write_bytes((folder / ".ca.crt.new").read_bytes())
        assert (folder / "ca.crt").read_bytes().startswith(old)
        assert make(folder) == []
        for name in ("issue", "finish"):
            with pytest.raises(SystemExit, match="start"):
                rotate(folder, name)
        for name in ("start", "issue", "finish"):
            rotate(folder, name)
        assert old not in (folder / "ca.crt").read_bytes()
        assert stat.S_IMODE((folder / "ca.key").stat().st_mode) == 0o600
        check_certificate(folder, "authsvc")


def test_an_authority_that_strict_verifiers_reject_is_named(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "of an older make")])
    now = datetime.datetime.now(datetime.UTC)
    older = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "ca.key").write_bytes(SignedCertificate(key, older).key_pem())
    (tmp_path / "ca.crt").write_bytes(SignedCertificate(key, older).certificate_pem())
    said = make_secrets(tmp_path, errors=True)
    assert "strict verifiers reject" in said
    assert "ca.crt: no key usage, no subject key identifier." in said
    assert said.endswith(": nothing new\n")


@pytest.mark.parametrize("name", ["authsvc", "valkey"])
def test_certificates_are_good_for_their_names_alone(secrets: Path, name: str) -> None:
    check_certificate(secrets, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        check_certificate(secrets, name, asked="somebody-else")


def check_certificate(secrets: Path, name: str, *, asked: str = "") -> None:
    server = secrets / f"{name}.crt", secrets / f"{name}.key"
    handshake(secrets / "ca.crt", server, server_name=asked or name)


def test_nobody_but_the_owner_finds_the_secrets(secrets: Path) -> None:
    assert secrets.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in secrets.iterdir()}
    assert modes.pop("ca.key") == 0o600
    # Read by the container's user, through mounts; written by the owner alone, who may not be root.
    assert set(modes.values()) == {0o644}


# The health check.


async def asked(*arguments: str) -> tuple[int, str]:
    done = await anyio.run_process(
        [sys.executable, "-W", "error", "-m", "authsvc", "health", *arguments], check=False
    )
    return done.returncode, done.stderr.decode()


async def until_well(*arguments: str) -> None:
    """A replica serves once it follows the store, an adapter once it has a connection."""
    with anyio.fail_after(TIMEOUT_SECONDS):
        while await asked(*arguments) != (0, ""):
            pass


async def test_a_replica_is_asked_for_its_health(secrets: Path, valkey: Valkey) -> None:
    trusted = ("--ca-file", str(secrets / "ca.crt"), "--name", "authsvc")
    async with installed(secrets, valkey, IdentityProvider(time.time)) as here:
        target = f"127.0.0.1:{here.port}"
        await until_well(target, *trusted)
        assert await asked(target, *trusted, "--alive") == (0, "")
        for other in ((*trusted[:3], "somebody-else"), ()):
            code, why = await asked(target, *other)
            assert (code, why.startswith("authsvc: no answer: ")) == (1, True)
    for flags in ((), ("--alive",)):
        code, why = await asked(target, *trusted, *flags)
        assert (code, why.startswith("authsvc: no answer: UNAVAILABLE: ")) == (1, True)
        assert "Connection refused" in why


async def test_a_replica_without_keys_is_alive_and_not_ready(secrets: Path, valkey: Valkey) -> None:
    idp = IdentityProvider(time.time)
    settings = settings_of(secrets, valkey, idp, f"127.0.0.1:{free_port()}")
    away = IssuerSettings(
        issuer=idp.issuer,
        algorithms=("ES256",),
        jwks_url="https://127.0.0.1:1/jwks",
        allow_private_addresses=True,
    )
    settings = settings.model_copy(update={"issuers": (away,)})
    trusted = ("--ca-file", str(secrets / "ca.crt"), "--name", "authsvc")
    async with running(settings) as address:
        assert await asked(address, *trusted, "--alive") == (0, "")
        assert await asked(address, *trusted) == (1, "authsvc: NOT_SERVING\n")


async def test_an_adapter_with_this_configuration_is_ready(
    secrets: Path, valkey: Valkey, tmp_path: Path
) -> None:
    """From the probe through the adapter to authsvc, which knows it by its token."""
    port = free_port()
    text = (DEPLOY / "config" / "adapter.toml").read_text()
    config = tmp_path / "adapter.toml"
    async with installed(secrets, valkey, IdentityProvider(time.time)) as here:
        config.write_text(
            text.replace("/run/secrets", str(secrets))
            .replace("0.0.0.0:8000", f"127.0.0.1:{port}")
            .replace("0.0.0.0:9564", "127.0.0.1:0")
            .replace("dns:///authsvc:50051", f"dns:///localhost:{here.port}")
        )
        with spawn("mcp_adapter", "serve", "--config", str(config)) as adapter:
            await anyio.to_thread.run_sync(adapter.wait_for, "listening on", TIMEOUT_SECONDS)
            assert await asked(f"http://127.0.0.1:{port}/healthz") == (0, "")
            await until_well(f"http://127.0.0.1:{port}/readyz")


async def test_the_console_with_this_configuration_answers_its_probe(
    secrets: Path, valkey: Valkey, tmp_path: Path
) -> None:
    """Without an operator, too: then nobody can sign in."""
    port = free_port()
    text = (DEPLOY / "config" / "console.toml").read_text()
    config = tmp_path / "console.toml"
    async with installed(secrets, valkey, IdentityProvider(time.time)) as here:
        config.write_text(
            text.replace("/run/secrets", str(secrets))
            .replace("127.0.0.1:8081", f"127.0.0.1:{port}")
            .replace("0.0.0.0:9664", "127.0.0.1:0")
            .replace("dns:///authsvc:50051", f"localhost:{here.port}")
        )
        with spawn("authsvc", "console", "--config", str(config)) as console:
            await anyio.to_thread.run_sync(console.wait_for, "listening on", TIMEOUT_SECONDS)
            await until_well(f"http://127.0.0.1:{port}/sign-in")
            assert "operators_file has no operators" in console.output
        tls = ClientTls(secrets / "ca.crt", service_token_file=secrets / "console-token")
        async with AdminClient(f"localhost:{here.port}", tls=tls) as operator:
            nobody = RecordFilter(issuer="https://idp.example.com", subject="nobody")
            assert [record async for record in operator.list(nobody)] == []


async def test_what_speaks_http_is_asked_for_its_health() -> None:
    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            request = await stream.receive()
            status = b"200 OK" if request.startswith(b"GET /healthz ") else b"503 Unavailable"
            await stream.send(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n")

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port) as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, answer)
        assert await asked(f"{url}/healthz") == (0, "")
        assert await asked(f"{url}/readyz") == (1, "authsvc: HTTP 503\n")
        tasks.cancel_scope.cancel()
    code, why = await asked(f"{url}/readyz")
    assert (code, why.startswith("authsvc: no answer: ")) == (1, True)
