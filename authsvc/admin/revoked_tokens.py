"""Marks the tokens of sessions that not-befores revoke: a revocation changes no record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import MappingProxyType

from authsvc.domain.record import Record
from authsvc.domain.revocation import NotBeforeKey, NotBefores, grant_keys
from authsvc.stores import SessionStore

KEYS_AT_ONCE = 1_000
"""Not-befores that one request to the store asks for, about."""


async def with_revoked_tokens(records: Iterable[Record], store: SessionStore) -> list[Record]:
    """The records, with ``Grant.token_revoked`` as the not-befores in force say.

    The store itself is asked, once for ``KEYS_AT_ONCE`` keys: a cache may be older than a
    revocation that the operator has just made at another replica.

    Raises:
        AuthError: STORE_UNAVAILABLE.
    """
    marked: list[Record] = []
    for part, keys in _parts(records):
        not_befores = await store.get_not_befores(keys) if keys else NotBefores()
        marked += (_marked(record, not_befores) for record in part)
    return marked


def _parts(records: Iterable[Record]) -> Iterator[tuple[list[Record], set[NotBeforeKey]]]:
    """The records in parts, each with the keys of the not-befores that may revoke its tokens."""
    part: list[Record] = []
    keys: set[NotBeforeKey] = set()
    for record in records:
        part.append(record)
        for grant in record.grants.values():
            keys.update(grant_keys(record, grant))
        if len(keys) >= KEYS_AT_ONCE:
            yield part, keys
            part, keys = [], set()
    yield part, keys


def _marked(record: Record, not_befores: NotBefores) -> Record:
    revoked = {
        resource: replace(grant, token_revoked=True)
        for resource, grant in record.grants.items()
        if not_befores.reject_grant(record, grant)
    }
    if not revoked:
        return record
    return replace(record, grants=MappingProxyType({**record.grants, **revoked}))
