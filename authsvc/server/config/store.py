"""``[store]``: where session records live."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from authsvc.common.setting_rules import Fault, rule
from authsvc.common.settings import Table
from authsvc.net.addresses import split
from authsvc.server.config.values import HostAndPort, Line, NonEmpty
from authsvc.stores import STALENESS_BOUND_SECONDS
from authsvc.stores.redis.server import RedisServer, server_at

StoreKind = Literal["sqlite", "redis", "memory"]

SHARED_KINDS: tuple[StoreKind, ...] = ("sqlite", "redis")
"""Kinds of store that several processes can share. More than one worker needs one of them."""


_OF_SQLITE = ("path",)
_OF_REDIS = (
    *("mode", "url", "nodes", "sentinels", "service", "username", "password_file", "ca_file"),
    *("certificate_file", "key_file", "acknowledge_replicas", "timeout_seconds", "prefix"),
    "max_staleness_seconds",
)
_OF_OTHER_KINDS: dict[StoreKind, tuple[str, ...]] = {
    "memory": (*_OF_SQLITE, *_OF_REDIS, "cached_sessions"),
    "sqlite": _OF_REDIS,
    "redis": _OF_SQLITE,
}
_OF_OTHER_MODES = {
    "single": ("nodes", "sentinels", "service"),
    "cluster": ("url", "sentinels", "service"),
    "sentinel": ("url", "nodes"),
}


class StoreSettings(Table):
    """``[store]``: where session records live."""

    kind: StoreKind = Field(
        default="sqlite", description="sqlite for one machine, redis (or Valkey) for many."
    )
    path: Path = Field(
        default=Path("var/authsvc.db"), description="The database file of the sqlite store."
    )
    mode: Literal["single", "sentinel", "cluster"] = Field(
        default="single", description="The topology of the redis store."
    )
    url: str = Field(
        default="redis://127.0.0.1:6379/0",
        description="The single node: redis://, rediss:// (TLS) or unix:, without a password.",
    )
    nodes: tuple[HostAndPort, ...] = Field(
        default=(), description="Some nodes of the cluster; the others are discovered."
    )
    sentinels: tuple[HostAndPort, ...] = Field(default=(), description="The sentinels.")
    service: NonEmpty = Field(
        default="authsvc", description="The name under which the sentinels monitor the server."
    )
    username: Line = Field(default="", description="ACL user, for sentinel and cluster.")
    password_file: Path | None = Field(
        default=None, description="The user's password; read at each connection."
    )
    ca_file: Path | None = Field(
        default=None,
        description="The authorities of the server's certificate. If it is set, TLS is used.",
    )
    certificate_file: Path | None = Field(
        default=None, description="authsvc's client certificate, if the server requires one."
    )
    key_file: Path | None = Field(default=None, description="The client certificate's key.")
    acknowledge_replicas: int = Field(
        default=0,
        ge=0,
        description="Replicas of the store that have to confirm a write before it is "
        "acknowledged. Use at least 1 with sentinel or cluster: otherwise a failover may lose a "
        "revocation.",
    )
    timeout_seconds: PositiveFloat = Field(
        default=1.0, description="Time-out of one request to the redis store."
    )
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = Field(
        default="authsvc", description="The prefix of all keys."
    )
    max_staleness_seconds: float = Field(
        default=STALENESS_BOUND_SECONDS,
        gt=0.2,
        le=STALENESS_BOUND_SECONDS,
        description="How old a replica's cache may be. Beyond it, every request asks the store.",
    )
    cached_sessions: int = Field(
        default=100_000,
        ge=1,
        description="Session records in the cache, 1.3 KB each. If they take more than 2.6 KB "
        "on average, fewer are cached.",
    )
    events_kept: int = Field(
        default=100_000,
        ge=1_000,
        description="Events that a watch can resume from. The memory store keeps fewer if they "
        "take more than 2.6 KB on average.",
    )

    @rule
    def _server_is_described(self) -> Iterator[Fault]:
        if self.kind == "redis":
            try:
                self.redis_server()
            except ValueError as error:
                yield Fault(str(error))

    @rule
    def _settings_are_of_its_kind(self) -> Iterator[Fault]:
        others = _OF_OTHER_KINDS.get(self.kind, ())
        yield from self.without_effect(
            others, f"with kind = {self.kind!r}: remove it, or choose another kind"
        )

    @rule
    def _settings_are_of_its_mode(self) -> Iterator[Fault]:
        if self.kind == "redis":
            yield from self.without_effect(
                _OF_OTHER_MODES[self.mode],
                f"with mode = {self.mode!r}: remove it, or choose another mode",
            )

    @rule
    def _certificate_is_presented(self) -> Iterator[Fault]:
        if self.kind != "redis":
            return
        if (self.certificate_file is None) != (self.key_file is None):
            yield Fault("certificate_file and key_file go together")
        elif self.ca_file is None and not self._has_tls_url:
            yield from self.without_effect(
                ("certificate_file", "key_file"), "without TLS: set ca_file, or a rediss:// url"
            )

    @rule
    def _socket_is_in_the_clear(self) -> Iterator[Fault]:
        if self.kind == "redis" and self.mode == "single" and self.url.startswith("unix:"):
            yield from self.without_effect(
                ("ca_file",), "on a Unix socket: remove it, or set a rediss:// url"
            )

    @property
    def _has_tls_url(self) -> bool:
        return self.mode == "single" and self.url.lower().startswith("rediss:")

    def redis_server(self) -> RedisServer:
        """The server of the redis store.

        Raises:
            ValueError: a setting is missing or wrong.
        """
        if self.mode == "single":
            try:
                server = server_at(self.url)
            except ValueError as error:
                raise ValueError(f"url {error}") from None
        else:
            setting = "nodes" if self.mode == "cluster" else "sentinels"
            nodes = self.nodes if self.mode == "cluster" else self.sentinels
            if not nodes:
                raise ValueError(f"mode = {self.mode!r} needs {setting}")
            server = RedisServer(mode=self.mode, nodes=tuple(map(split, nodes)))
        return replace(
            server,
            service=self.service,
            username=self.username or server.username,
            password_file=self.password_file,
            tls=server.tls or self.ca_file is not None,
            ca_file=self.ca_file,
            certificate_file=self.certificate_file,
            key_file=self.key_file,
            acknowledge_replicas=self.acknowledge_replicas,
            timeout_seconds=self.timeout_seconds,
        )
