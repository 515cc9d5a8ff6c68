"""The server of a redis store. Settings use this module, and do not import the redis client."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from authsvc.net import urls

Address = tuple[str, int]

_WITH_PASSWORD = re.compile(r"[^:/?#]+://[^/?#@]*:[^/?#]*@")


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A server, and how to connect to it.

    Attributes:
        mode: the kind of ``nodes``: the single node, the sentinels, or some nodes of a cluster.
        nodes: (host, port); empty for a Unix socket.
        unix_socket: path of a single node's socket; None for TCP.
        service: the primary's name at the sentinels.
        database: number; a cluster has only 0.
        username: ACL user; empty for the default user.
        password_file: read for each connection, so that it can be changed; None without a
            password.
        tls: whether to use TLS. The server is always verified, by ``ca_file`` or the system's
            authorities.
        ca_file: PEM certificates of the authorities.
        certificate_file: PEM chain of the client certificate.
        key_file: PEM key of ``certificate_file``.
        acknowledge_replicas: how many replicas have to confirm each write.
        timeout_seconds: time for one command, connecting and retries included.
    """

    mode: Literal["single", "sentinel", "cluster"] = "single"
    nodes: tuple[Address, ...] = ()
    unix_socket: Path | None = None
    service: str = ""
    database: int = 0
    username: str = ""
    password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    acknowledge_replicas: int = 0
    timeout_seconds: float = 1.0

    @property
    def partitions(self) -> int:
        """How many partitions the records are in; each is one slot of a cluster."""
        return 16 if self.mode == "cluster" else 1


def server_at(url: str) -> RedisServer:
    """The single node at a URL: ``redis://``, ``rediss://`` (TLS) or ``unix:///path``.

    Raises:
        ValueError: it is not such a URL, or contains a password, which belongs in a file.
    """
    if _WITH_PASSWORD.match(url):
        raise ValueError("has the password, which belongs in password_file")
    if url.startswith("unix:"):
        return _server_at_socket(url)
    rule = "is a URL like redis://host:6379/0, rediss://user@host:6379 or unix:/path"
    try:
        parts = urls.read(url)
    except ValueError as error:
        raise ValueError(f"{rule}; this one {error}") from None
    scheme = parts.scheme.lower()
    if scheme not in {"redis", "rediss"} or parts.query or parts.fragment is not None:
        raise ValueError(rule)
    database = parts.path.strip("/")
    if database and not database.isdecimal():
        raise ValueError("has a path that is not the number of a database")
    return RedisServer(
        nodes=((parts.host.strip("[]"), int(parts.port or 6379)),),
        database=int(database or 0),
        username=unquote(parts.user or ""),
        tls=scheme == "rediss",
    )


def _server_at_socket(url: str) -> RedisServer:
    """
    Raises:
        ValueError: as ``server_at``.
    """
    parts = urlsplit(url)
    if not url.isprintable() or not parts.path or parts.hostname or {"?", "#"} & set(url):
        raise ValueError(
            "is the path of a socket like unix:/run/valkey.sock, without query and fragment"
        )
    return RedisServer(unix_socket=Path(parts.path), username=unquote(parts.username or ""))
