"""The sets by which records are found by prefix and counted: counts, and repairs.

Every script that writes records keeps these sets. A replica of a release without them does not, and
may run beside this one while a fleet is upgraded. So each sweep looks whether the sets have as many
members as there are records, and once in ``CHECK_SECONDS`` all records are entered again.
"""

from __future__ import annotations

from authsvc.common.unexpected import FailureLog
from authsvc.domain.errors import AuthError
from authsvc.domain.service_status import SessionCounts
from authsvc.stores.redis import scripts
from authsvc.stores.redis.link import Link
from authsvc.stores.redis.partition import Partition
from authsvc.stores.redis.partitions import Partitions

CHECK_SECONDS = 86_400
"""How often all records are entered again, by one replica or another."""

CHUNK = 100
"""Records that one script enters: the server runs no other command meanwhile."""

_SETS = ("created", "ids", "revoked", "live_unauthenticated")


class Index:
    """Counts records, and repairs what they are counted by.

    Args:
        link: runs the scripts.
        partitions: where the records are.
    """

    def __init__(self, link: Link, partitions: Partitions) -> None:
        self._link = link
        self._partitions = partitions
        self._failures = FailureLog(
            "the store: the sets by which sessions are found and counted may be incomplete until a "
            "later sweep repairs them",
            expected=(AuthError,),
        )

    async def count(self, now: float) -> SessionCounts:
        """See ``SessionStore.count``."""
        total = unauthenticated = revoked = 0
        for partition in self._partitions:
            counted = await self._link.run(scripts.COUNT, partition.base, repr(now))
            total += counted[0]
            unauthenticated += counted[1]
            revoked += counted[2]
        return SessionCounts(
            unauthenticated=unauthenticated,
            # Not below 0 while another release writes.
            authenticated=max(0, total - unauthenticated - revoked),
            revoked=revoked,
        )

    async def repair(self) -> None:
        """Enter all records again, where that is due.

        A failure is logged, and not raised: a server without free memory has to remove records
        first, and a later sweep tries again.
        """
        for partition in self._partitions:
            try:
                if not await self._link.run(scripts.IS_INDEXED, partition.base):
                    await self._enter_all(partition)
            except AuthError as error:
                self._failures.report(error)

    async def _enter_all(self, partition: Partition) -> None:
        for name in _SETS:
            cursor = b"0"
            while True:
                cursor = await self._link.run(scripts.INDEX, partition.base, name, cursor, CHUNK)
                if cursor == b"0":
                    break
        await self._link.ask("SET", f"{partition.base}:indexed", 1, "EX", CHECK_SECONDS)
