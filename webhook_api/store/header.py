"""The header of a file: is it a database, and one of this service (sqlite.org/fileformat.html)?"""

from pathlib import Path

HEADER_BYTES = 100
HEADER_STRING = b"SQLite format 3\0"  # at its start
APPLICATION_ID = 0x4D536731  # marks a file as ours
_APPLICATION_ID_AT = 68


def is_database(path: Path) -> bool:
    """Return whether the file at `path` begins like a database.

    SQLite deletes the WAL beside an empty file, and moves it into any other file. But the WAL may
    hold the only copy of messages. Only for a process without a connection to the file: closing
    it here drops the locks of such a connection (sqlite.org/howtocorrupt.html, 2.2).

    Raises:
        OSError: it cannot be read.
    """
    return _header(path).startswith(HEADER_STRING)


def is_ours(path: Path) -> bool:
    """Return whether the file at `path` is a database of this service.

    Raises:
        OSError: it cannot be read.
    """
    return is_our_header(_header(path))


def is_our_header(header: bytes) -> bool:
    """Return whether these first HEADER_BYTES of a file are of a database of this service."""
    return header[_APPLICATION_ID_AT : _APPLICATION_ID_AT + 4] == APPLICATION_ID.to_bytes(4, "big")


def _header(path: Path) -> bytes:
    """Return the first HEADER_BYTES; nothing if there is no file."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(HEADER_BYTES)
