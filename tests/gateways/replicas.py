"""Two replicas of authsvc as processes, over one store, behind Envoys that ask them in turn."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from authsvc.client import ClientTls
from tests.gateways.configured import ASSERTING, Files, config
from tests.gateways.deployed import (
    Configuration,
    admin_of,
    cluster_of,
    configuration,
    wait_longer,
)
from tests.gateways.harness import Authsvc, Gateway, jwks_url, started
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.envoy import running_envoy
from tests.support.processes import Process, spawn
from tests.support.shared_valkey import fresh_prefix, shared_valkey
from tests.support.tokens import IdentityProvider
from tests.support.valkey import free_port

KIND = "sdk-stateful"
"""Of the upstream."""


class Replica:
    """An authsvc that may end and start again.

    Args:
        path: its configuration.
        stack: ends it.
    """

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._path = path
        self._stack = stack
        self.process = self._spawned()

    def start(self) -> None:
        """Start it again, once the port is free."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        self.process = self._spawned()
        while "cannot be listened on" in self._started_or_ended():
            assert time.monotonic() < deadline
            self.process = self._spawned()

    def wait(self) -> None:
        """Wait until it listens."""
        self.process.wait_for("listening on", TIMEOUT_SECONDS)

    def _spawned(self) -> Process:
        return self._stack.enter_context(spawn("authsvc", "serve", "--config", str(self._path)))

    def _started_or_ended(self) -> str:
        try:
            self.wait()
        except AssertionError:
            return self.process.output
        return ""


@dataclass(frozen=True)
class Replicas:
    """Two of them, the gateways in front of them, and one upstream behind these.

    Attributes:
        gateway: an Envoy that waits for long; its authsvc is the first replica.
        deployed: an Envoy as it is deployed.
        each: both replicas.
        addresses: where they listen.
        calls: how a gateway calls them.
    """

    gateway: Gateway
    deployed: Gateway
    each: tuple[Replica, ...]
    addresses: tuple[str, ...]
    calls: ClientTls

    def kill(self, signal_number: int) -> None:
        """Send both a signal."""
        for replica in self.each:
            replica.process.kill(signal_number)


@contextmanager
def serving_replicas(
    folder: Path, *, origin: str = "", tables: Sequence[str] = ("", "")
) -> Iterator[Replicas]:
    """Run all of it.

    Args:
        folder: for files.
        origin: where the first Envoy listens; empty for a port that is free.
        tables: further tables of each replica's configuration.
    """
    idp, files = IdentityProvider(time.time), Files(folder)
    files.write(idp)
    first, second = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    origins = [origin or first, second]
    resource = f"{origins[0]}/mcp"
    store = f'kind = "redis"\nurl = "{shared_valkey().url}"\nprefix = "{fresh_prefix()}"'
    ports = [free_port() for _ in range(2)]
    jwks_ports = [free_port() for _ in range(2)]
    configs = [
        _config(files, idp, resource, port, jwks_port, store, more)
        for port, jwks_port, more in zip(ports, jwks_ports, tables, strict=True)
    ]
    with ExitStack() as stack:
        each = tuple(Replica(path, stack) for path in configs)
        for replica in each:
            replica.wait()
        authsvc = Authsvc(f"localhost:{ports[0]}", jwks_url(jwks_ports[0]), files.operator)
        how = {"jwks": authsvc.jwks, "issuer": ASSERTING, "resource": resource}
        upstream = started(KIND, stack, clock=time.time, **how)

        def gateway(origin: str, *, waits: bool) -> Gateway:
            configured = configuration(
                folder,
                origin=origin,
                resource=resource,
                authsvc=authsvc.address,
                upstream=upstream.url,
            )
            _ask_too(configured, ports[1])
            if waits:
                wait_longer(configured)
            own = folder / str(waits)
            own.mkdir()
            log = stack.enter_context(running_envoy(configured, own))
            admin = admin_of(folder, origin)
            return Gateway(KIND, resource, origin, idp, authsvc, upstream.upstream, log, admin)

        patient, deployed = gateway(origins[0], waits=True), gateway(origins[1], waits=False)
        addresses = tuple(f"localhost:{port}" for port in ports)
        yield Replicas(patient, deployed, each, addresses, files.gateway)


def _config(
    files: Files,
    idp: IdentityProvider,
    resource: str,
    port: int,
    jwks_port: int,
    store: str,
    tables: str,
) -> Path:
    """The configuration of one replica, whose store is shared."""
    key = files.folder / "encryption"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_text(token_hex(32))
    return config(
        *(files, idp),
        resource=resource,
        port=port,
        jwks_port=jwks_port,
        route={},
        store=store,
        tables=tables,
        encryption_key_file=key,
        name=f"authsvc-{port}",
    )


def _ask_too(configured: Configuration, port: int) -> None:
    """Have Envoy ask one replica more."""
    (endpoints,) = cluster_of(configured, "authsvc")["load_assignment"]["endpoints"]
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints["lb_endpoints"].append({"endpoint": {"address": address}})
