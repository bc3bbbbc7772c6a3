"""Up to which message the replica has all: there the feed ends (ACK_AFTER=replica).

It is a position, in a small file beside the database. So every process knows what the others have
uploaded, also after a restart. And it proves itself as every position does: after a restore, or
when the file is an older one after a power cut, nothing counts as uploaded until the next upload.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from webhook_api.models import FeedPosition
from webhook_api.store.database import Database
from webhook_api.store.files import REPLICATED, beside
from webhook_api.store.lock import hold

NOTHING = FeedPosition(0, "-")  # no position has these digits
_BYTES = 32  # always as many, so that a reader never sees a part of one


@contextmanager
def one_uploads(database: Database) -> Iterator[FeedPosition]:
    """Let only one process at a time ask for an upload; yield what is noted now.

    Raises:
        OSError: the folder cannot be written.
    """
    with hold(beside(database.path, REPLICATED)):
        yield _read(database)


def note_replicated(database: Database, end: FeedPosition) -> None:
    """Let the feed go on to `end`. Called within `one_uploads`, so that it never goes back.

    Raises:
        OSError: it stays where it is.
    """
    with beside(database.path, REPLICATED).open("r+b", buffering=0) as file:
        file.write(str(end).encode().ljust(_BYTES))
    database.note_arrival()


def replicated_end(database: Database) -> FeedPosition | None:
    """Return the position where the feed ends; None: it has no end of its own."""
    return _read(database) if database.feed_ends_at_replica else None


def _read(database: Database) -> FeedPosition:
    with suppress(OSError, ValueError):
        # Whatever else is in the file, only this is ever written again.
        noted = beside(database.path, REPLICATED).read_bytes()[:_BYTES]
        position = FeedPosition.parse(noted.decode().strip())
        if isinstance(position, FeedPosition):
            return position
    return NOTHING
