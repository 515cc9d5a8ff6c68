"""Records in an SQLite file: the embedded default, for one machine.

Reads use a connection of the event loop's own: they take a few microseconds, and no other thread.
Writes are queued for one thread, which commits all queued writes in one transaction (group commit):
many writers share one fsync, and none of them blocks the loop. A write is on disk before its caller
gets the result. Several processes may share the file: ``PRAGMA data_version`` shows each process,
exactly and at once, that another one has written.
"""

from authsvc.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
