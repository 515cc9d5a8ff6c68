"""Records in an SQLite file: the embedded default, for one machine.

Reads go straight to a connection of the event loop's own: a few microseconds, without a thread
hop. Writes go to one thread that commits all that have queued in a single transaction (group
commit), so that many writers share one fsync and none of them blocks the loop. A write is on disk
before its caller hears of it. Several processes may share the file: ``PRAGMA data_version`` tells
each, exactly and at once, that another has written.
"""

from authsvc.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
