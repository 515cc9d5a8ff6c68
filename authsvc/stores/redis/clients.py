"""The redis client for a single node, Sentinel or Cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from authsvc.common.secret_file import HeldSecret, SecretFileError
from authsvc.stores.redis.attempts import NotedRetry
from authsvc.stores.redis.server import RedisServer


class _PasswordFile(CredentialProvider):
    def __init__(self, username: str, path: Path | None) -> None:
        self._username = username
        self._password = None if path is None else HeldSecret(path)

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        try:
            password = "" if self._password is None else self._password.read()
        except SecretFileError as error:
            # One of the failures that the store expects.
            raise OSError(f"store.password_file: {error}") from None
        return (self._username, password) if self._username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()  # a small file, read for each new connection


def client_of(server: RedisServer, timeout_seconds: float, *, retries: int) -> Redis | RedisCluster:
    """A client; it connects when it is used.

    Args:
        server: which server.
        timeout_seconds: how long connecting, and one command, may take.
        retries: how often a command is repeated whose connection failed.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": NotedRetry(NoBackoff(), retries),
        "protocol": 2,
    }
    if server.username or server.password_file:
        options["credential_provider"] = _PasswordFile(server.username, server.password_file)
    if server.tls:
        options |= {
            "ssl": True,
            "ssl_ca_certs": str(server.ca_file) if server.ca_file else None,
            "ssl_certfile": str(server.certificate_file) if server.certificate_file else None,
            "ssl_keyfile": str(server.key_file) if server.key_file else None,
        }
    if server.mode == "cluster":
        nodes = [ClusterNode(host, port) for host, port in server.nodes]
        return RedisCluster(startup_nodes=nodes, **options)
    options["db"] = server.database
    if server.mode == "sentinel":
        sentinels = Sentinel(  # type: ignore[no-untyped-call] # redis has it so
            list(server.nodes), sentinel_kwargs=dict(options, db=0), **options
        )
        return cast("Redis", sentinels.master_for(server.service))
    if server.unix_socket:
        return Redis(unix_socket_path=str(server.unix_socket), **options)
    ((host, port),) = server.nodes
    return Redis(host=host, port=port, **options)
