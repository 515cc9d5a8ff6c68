"""The state of the service, as operators see it. Pure; without key material."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal


class IssuerState(Enum):
    """Whether an issuer's tokens can be verified. Values are those of the proto."""

    READY = 1
    STALE = 2
    UNAVAILABLE = 3


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """The public facts of a key.

    Attributes:
        key_id: its ``kid``; empty for a key without one, such as a secret.
        algorithm: the algorithm that it is for, such as ``ES256``.
        previous: whether it is a secret that a newer one has replaced.
    """

    key_id: str
    algorithm: str
    previous: bool = False


@dataclass(frozen=True, slots=True)
class SkippedKey:
    """An entry of a JWK Set that is not used.

    Attributes:
        entry: its place in the set, and its ``kid``.
        cause: why it is not used. Shows no key material.
        is_invalid: whether the issuer should mend it; False for a valid key of another purpose.
    """

    entry: str
    cause: str
    is_invalid: bool = True

    def __str__(self) -> str:
        return f"{self.entry}: {self.cause}"


@dataclass(frozen=True, slots=True)
class IssuerStatus:
    """An issuer, as one process knows it.

    Attributes:
        issuer: claim ``iss``.
        state: whether its tokens can be verified.
        key_source: the setting that its keys come from, such as ``jwks_url``; ``introspection``
            for an issuer whose endpoint judges each token (RFC 7662).
        keys: its keys at present.
        fetch_time: when they were read or fetched, in seconds since the epoch; None without keys.
        skipped_keys: entries of its JWK Set that are not used. Known only to the process that read
            the set.
        failure: why newer keys could not be read or fetched; empty if they could.
    """

    issuer: str
    state: IssuerState
    key_source: str
    keys: tuple[KeyFacts, ...] = ()
    fetch_time: float | None = None
    skipped_keys: tuple[SkippedKey, ...] = ()
    failure: str = ""


@dataclass(frozen=True, slots=True)
class SessionCounts:
    """The number of sessions by state.

    Attributes:
        unauthenticated: without an identity.
        authenticated: with one.
        revoked: until their tombstones end.
    """

    unauthenticated: int = 0
    authenticated: int = 0
    revoked: int = 0


@dataclass(frozen=True, slots=True)
class StoreSpace:
    """The space that a store writes to.

    Attributes:
        kind: "disk" for a file system, "memory" for that of a server.
        used_bytes: in use, by whatever it is.
        limit_bytes: how many there are; None without a limit.
        persistence_ok: whether the server's last writes to its own disk worked; None for a store
            that writes to the disk itself.
    """

    kind: Literal["disk", "memory"]
    used_bytes: int
    limit_bytes: int | None
    persistence_ok: bool | None = None


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """The state of one process of authsvc. Times in seconds since the epoch.

    Attributes:
        version: of authsvc.
        start_time: when it began to serve.
        time: its clock, now.
        store_ready: whether its store is available.
        issuers: every trusted issuer, in the order of the configuration.
        sessions: the numbers of sessions; None unless they were asked for.
    """

    version: str
    start_time: float
    time: float
    store_ready: bool
    issuers: tuple[IssuerStatus, ...]
    sessions: SessionCounts | None = None

    @property
    def uptime_seconds(self) -> float:
        """Seconds for which it has served."""
        return max(0.0, self.time - self.start_time)
