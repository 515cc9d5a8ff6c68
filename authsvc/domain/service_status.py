"""How the service is, as operators see it. Pure; never key material."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class IssuerState(Enum):
    """Whether an issuer's tokens can be verified. Values are those of the proto."""

    READY = 1
    STALE = 2
    UNAVAILABLE = 3


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What is public of a key.

    Attributes:
        key_id: its ``kid``; empty for a key without one, such as a secret.
        algorithm: the one that it is for, such as ``ES256``.
        previous: whether it is a secret that a newer one has replaced.
    """

    key_id: str
    algorithm: str
    previous: bool = False


@dataclass(frozen=True, slots=True)
class IssuerStatus:
    """An issuer, as one process knows it.

    Attributes:
        issuer: claim ``iss``.
        state: whether its tokens can be verified.
        key_source: the setting that its keys come from, such as ``jwks_url``; ``introspection``
            for an issuer that is asked about each token.
        keys: as far as there are any.
        fetch_time: when they were read or fetched; None if there are none.
        skipped_keys: entries of its JWK Set that somebody should look at, as they cannot be used.
            Known to the process alone that has read them.
        failure: why newer keys could not be read or fetched; empty if they could.
    """

    issuer: str
    state: IssuerState
    key_source: str
    keys: tuple[KeyFacts, ...] = ()
    fetch_time: float | None = None
    skipped_keys: int = 0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class SessionCounts:
    """How many sessions there are.

    Attributes:
        unauthenticated: without an identity.
        authenticated: with one.
        revoked: until their tombstones end.
        truncated: whether there are older ones that were not counted.
    """

    unauthenticated: int = 0
    authenticated: int = 0
    revoked: int = 0
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """How one process of authsvc is. Times in seconds since the epoch.

    Attributes:
        version: of authsvc.
        start_time: when it began to serve.
        time: its clock, now.
        store_ready: whether its store can be asked.
        issuers: all that are trusted, in the order of the configuration.
        sessions: None unless they were to be counted.
    """

    version: str
    start_time: float
    time: float
    store_ready: bool
    issuers: tuple[IssuerStatus, ...]
    sessions: SessionCounts | None = None

    @property
    def uptime_seconds(self) -> float:
        """For how long it has served."""
        return max(0.0, self.time - self.start_time)
