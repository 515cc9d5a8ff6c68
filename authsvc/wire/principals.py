"""Times, and principals with their actors, between ``domain.resolution`` and ``auth.proto``."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.domain.resolution import Actor, Principal
from authsvc.v1 import auth_pb2 as pb

NANOS = 1_000_000_000
"""Nanoseconds in a second."""


def timestamp(seconds: float) -> Timestamp:
    """Seconds since the epoch as a Timestamp, to the microsecond."""
    micros = round(seconds * 1_000_000)
    return Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def seconds(message: Timestamp) -> float:
    """A Timestamp as seconds since the epoch."""
    return message.seconds + message.nanos / NANOS


def principal_message(principal: Principal) -> pb.Principal:
    """A principal for the wire."""
    return pb.Principal(
        issuer=principal.issuer,
        subject=principal.subject,
        client_id=principal.client_id,
        scopes=principal.scopes,
        roles=principal.roles,
        buckets=principal.buckets,
        permissions=principal.permissions,
        expire_time=timestamp(principal.expire_time),
        claims_json=principal.claims_json,
        actor=None if principal.actor is None else _actor_message(principal.actor),
    )


def _actor_message(actor: Actor) -> pb.Actor:
    return pb.Actor(
        subject=actor.subject,
        issuer=actor.issuer,
        client_id=actor.client_id,
        actor=None if actor.actor is None else _actor_message(actor.actor),
    )


def principal_of(message: pb.Principal) -> Principal:
    """A principal from the wire."""
    return Principal(
        issuer=message.issuer,
        subject=message.subject,
        expire_time=seconds(message.expire_time),
        client_id=message.client_id,
        scopes=tuple(message.scopes),
        roles=tuple(message.roles),
        buckets=tuple(message.buckets),
        permissions=tuple(message.permissions),
        claims_json=message.claims_json,
        actor=_actor(message.actor) if message.HasField("actor") else None,
    )


def _actor(message: pb.Actor) -> Actor:
    return Actor(
        subject=message.subject,
        issuer=message.issuer,
        client_id=message.client_id,
        actor=_actor(message.actor) if message.HasField("actor") else None,
    )
