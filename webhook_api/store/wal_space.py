"""Space for the write-ahead log (WAL): no write may take what the next checkpoint needs.

A checkpoint moves pages from the WAL into the database file, which grows; only when all are moved
does the WAL begin again. If the WAL fills the disk, no checkpoint can end, and nothing can be
stored until somebody makes space. During a long read the WAL only grows.
"""

from webhook_api.errors import Unavailable
from webhook_api.store.connections import Connection
from webhook_api.store.database import Database
from webhook_api.store.lock import LockedConnection

PAGES_TO_REMOVE = 1024  # in the WAL, most of them of the search index: for a batch of messages

_RESERVE_BYTES = 256 * 1024
_PAGE_BYTES = 4096
_BLOCK_BYTES = 512  # of `st_blocks` (stat(2))
_PAGES_OF_A_COMMIT = 6  # in the WAL, besides those of each message
_PAGES_OF_A_MESSAGE = 6
_CHARS_OF_A_PAGE = 75  # of texts in the search index, in a script with many characters


def pages_to_store(messages: int, kept_bytes: int = 0) -> int:
    """Return about how many pages in the WAL it takes to store so many `messages` together.

    `kept_bytes` is the length of their payloads, and of dead letters.
    """
    return _PAGES_OF_A_COMMIT + _PAGES_OF_A_MESSAGE * messages + kept_bytes // _PAGE_BYTES


def pages_to_index(chars: int) -> int:
    """Return about how many pages in the WAL it takes to index texts of so many characters."""
    return 1 + chars // _CHARS_OF_A_PAGE


def make_space(database: Database, connection: LockedConnection, pages: int) -> None:
    """Check that `pages` more can be written; if not, try to shorten the WAL.

    No transaction may be open.

    Raises:
        Unavailable: the disk is full, or the folder is gone.
    """
    needed = 2 * pages * _PAGE_BYTES + _RESERVE_BYTES  # in the WAL, and in the database file
    if database.free_bytes() - database.wal_bytes() >= needed:  # a tenth of the time of `_space`
        return
    missing = needed - _space(database, connection)
    if 0 < missing <= needed and not database.leaves_checkpoints:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        missing = needed - _space(database, connection)
    if missing > 0:
        raise Unavailable(f"database: the disk is full, {missing} more bytes have to be free")


def _space(database: Database, connection: Connection) -> int:
    """Return how many bytes are free besides those that a complete checkpoint needs."""
    size = _one(connection, "PRAGMA page_count") * _one(connection, "PRAGMA page_size")
    # An incomplete checkpoint leaves holes in the file. Where files are compressed, it always
    # seems to have some; but no checkpoint writes more than what is in the WAL.
    growth = size - _BLOCK_BYTES * database.path.stat().st_blocks
    return database.free_bytes() - max(0, min(growth, database.wal_bytes()))


def _one(connection: Connection, pragma: str) -> int:
    return int(connection.execute(pragma).fetchone()[0])
