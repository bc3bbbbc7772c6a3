"""Reads the record of the shim, as events in their order."""

import struct
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

_ENTRY = struct.Struct("=IHHiiQqI")  # struct entry of shim.c


class Kind(IntEnum):
    """What happened."""

    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC_BEGIN = 4
    SYNC_END = 5
    UNLINK = 6
    RENAME = 7
    MKDIR = 8
    ACK = 9


class Event(NamedTuple):
    """One entry of the record."""

    kind: Kind
    file: int  # bits of `Files`
    pid: int
    error: int  # of a sync that ended: errno, 0 if it succeeded
    inode: int
    at: int  # WRITE: offset, TRUNCATE: size, syncs: which one
    name: str  # a path; of an acknowledgement the message_id
    data: bytes  # WRITE: the bytes, RENAME: the new path


def read_record(path: Path) -> list[Event]:
    """Return the events recorded so far."""
    return list(_events(path.read_bytes()))


def _events(record: bytes) -> Iterator[Event]:
    at = 0
    while at < len(record):
        length, kind, file, pid, error, inode, where, name = _ENTRY.unpack_from(record, at)
        middle = at + _ENTRY.size
        at += 4 + length
        path = record[middle : middle + name].decode()
        yield Event(Kind(kind), file, pid, error, inode, where, path, record[middle + name : at])
