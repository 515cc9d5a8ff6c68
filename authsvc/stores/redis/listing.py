"""Lists of records, newest first, over all partitions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator

from authsvc.domain.events import RecordFilter
from authsvc.domain.record import Record
from authsvc.stores import Page
from authsvc.stores.paging import (
    Cursor,
    after_cursor,
    cursor_of,
    cursor_text,
    newest_first,
    parse_cursor,
)
from authsvc.stores.redis import scripts
from authsvc.stores.redis.link import Link
from authsvc.stores.redis.partition import Partition
from authsvc.stores.redis.partitions import Partitions
from authsvc.stores.redis.records import decode_value, subject_index

CHUNK = 200
"""Records that one command reads."""

SCAN_LIMIT = 10_000
"""Records that are examined for one page."""

PREFIX_LIMIT = 2_000
"""Ids with a prefix that are sorted for a page, of each partition. Where more ids have the prefix,
their records are found by examining all."""


class Listing:
    """Reads pages of records.

    Args:
        link: runs the commands.
        partitions: where the records are.
    """

    def __init__(self, link: Link, partitions: Partitions) -> None:
        self._link = link
        self._partitions = partitions

    async def page(self, which: RecordFilter, *, after: str, size: int) -> Page:
        """See ``SessionStore.page``."""
        cursor = parse_cursor(after)
        if which.issuer and which.subject:
            return await self._page_of_subject(which, after, size)
        found: list[Record] = []
        scanned = 0
        chunk: list[str] = []
        last = after
        async for place in self._newest(cursor, which.id_prefix):
            if place[1].startswith(which.id_prefix):
                chunk.append(place[1])
            scanned += 1
            last = cursor_text(place)
            if len(chunk) == CHUNK or len(chunk) + len(found) >= size:
                found += await self._matching(which, chunk)
                chunk = []
            if len(found) >= size or scanned == SCAN_LIMIT:
                return Page(found + await self._matching(which, chunk), last)
        found += await self._matching(which, chunk)
        return Page(found, "")

    async def records_of(self, issuer: str, subject: str, most: int) -> list[Record]:
        """See ``SessionStore.records_of``."""
        which = RecordFilter(issuer=issuer, subject=subject)
        index = subject_index(issuer, subject)
        found: list[Record] = []
        for partition in self._partitions:
            left = most - len(found)
            if left <= 0:
                break
            members = await self._link.run(scripts.SUBJECT_IDS, partition.base, index, left)
            ids = [member.decode() for member in members]
            for first in range(0, len(ids), CHUNK):
                found += await self._matching(which, ids[first : first + CHUNK])
        return found

    async def _page_of_subject(self, which: RecordFilter, after: str, size: int) -> Page:
        index = subject_index(which.issuer, which.subject)
        is_after = after_cursor(after)
        found: list[Record] = []
        for partition in self._partitions:
            members = await self._link.ask("SMEMBERS", f"{partition.base}:u:{index}")
            ids = [member.decode() for member in members]
            for first in range(0, len(ids), CHUNK):
                matching = await self._matching(which, ids[first : first + CHUNK])
                found += [record for record in matching if is_after(record)]
        found = newest_first(found)
        return Page(found[:size], cursor_of(found[size - 1]) if len(found) > size else "")

    async def _matching(self, which: RecordFilter, session_ids: list[str]) -> list[Record]:
        """The records of session ids that match, in the order of the ids."""
        by_partition: defaultdict[Partition, list[str]] = defaultdict(list)
        for session_id in session_ids:
            by_partition[self._partitions.of(session_id)].append(session_id)
        found: dict[str, Record] = {}
        for partition, ids in by_partition.items():
            values = await self._link.ask("MGET", *map(partition.record_key, ids))
            for session_id, value in zip(ids, values, strict=True):
                if value is not None:
                    found[session_id] = decode_value(session_id, value)
        return [found[it] for it in session_ids if it in found and which.matches(found[it])]

    async def _newest(self, cursor: Cursor | None, id_prefix: str) -> AsyncIterator[Cursor]:
        """The cursor of every record after ``cursor``, over all partitions.

        Where an index has the ids with the prefix, it is of these alone.
        """
        sources = [
            await self._newest_with_prefix(partition, cursor, id_prefix)
            for partition in self._partitions
        ]
        heads = [(head, source) for source in sources if (head := await anext(source, None))]
        while heads:
            index = max(range(len(heads)), key=lambda number: heads[number][0])
            head, source = heads[index]
            yield head
            following = await anext(source, None)
            if following is None:
                heads.pop(index)
            else:
                heads[index] = following, source

    async def _newest_with_prefix(
        self, partition: Partition, cursor: Cursor | None, id_prefix: str
    ) -> AsyncGenerator[Cursor, None]:
        if id_prefix:
            answer = await self._link.run(
                scripts.PREFIX_IDS, partition.base, id_prefix, PREFIX_LIMIT
            )
            if answer is not None:
                return _newest_in(answer, cursor)
        return self._newest_of(partition, cursor)

    async def _newest_of(
        self, partition: Partition, cursor: Cursor | None
    ) -> AsyncGenerator[Cursor, None]:
        newest = repr(cursor[0]) if cursor else "+inf"
        offset = 0
        while True:
            answer = await self._link.ask(
                "ZRANGE", f"{partition.base}:created", newest, "-inf", "BYSCORE", "REV",
                "LIMIT", offset, CHUNK, "WITHSCORES",
            )  # fmt: skip
            members = list(zip(answer[::2], answer[1::2], strict=True))
            for member, score in members:
                place = (float(score), member.decode())
                if cursor is None or place < cursor:
                    yield place
            if len(members) < CHUNK:
                return
            offset += CHUNK


async def _newest_in(answer: list[bytes], cursor: Cursor | None) -> AsyncGenerator[Cursor, None]:
    """The cursors of an answer of ``prefix_ids``, in order."""
    places = [
        (float(time), member.decode())
        for member, time in zip(answer[::2], answer[1::2], strict=True)
    ]
    for place in sorted(places, reverse=True):
        if cursor is None or place < cursor:
            yield place
