"""Keys of messages that have been received: a message that is repeated has no second effect."""

from __future__ import annotations

from typing import Protocol


class ReceivedStore(Protocol):
    """Keeps which messages were received, such as security event tokens, each by a digest.

    A key may be read before its write is known to be as durable as ``mark_received`` makes it: a
    message is marked after its effect is durable, so that such a key says no more than that.
    """

    async def is_received(self, key: str) -> bool:
        """Whether the key has been marked, and not been removed since.

        Args:
            key: a digest, in letters, digits, ``_`` and ``-``.
        """
        ...

    async def mark_received(self, key: str, until: float) -> None:
        """Mark a key. Durable, as ``SessionStore.put``. Idempotent: the later ``until`` is kept.

        Args:
            key: as in ``is_received``.
            until: it is kept until then at least, in seconds since the epoch; ``sweep`` removes it.
        """
        ...
