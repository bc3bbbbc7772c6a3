"""A disk behind a page cache: what may be on the disk after a power cut.

The cache works as Linux's does, page by page: a write makes pages dirty; a sync that succeeds
puts on disk what was dirty when it began; a sync that fails makes the pages clean all the same,
so that what was in them is never written, unless they are written to again (PostgreSQL's
lesson of 2018, README, "A disk that fails"). Until its sync, a page may be on disk as it was after
any of its writes, and each of its 512 byte sectors as it was after another one. Sizes and names
that are not synced yet are the old or the new ones.
"""

import random
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path, PurePosixPath

from tests.tools.powercut.record import Event, Kind

PAGE = 4096
SECTOR = 512


class Luck(Enum):
    """How much of the unsynced data has reached the disk when the power is cut."""

    NOTHING = "nothing"
    EVERYTHING = "everything"
    SOME = "some pages"
    TORN = "torn pages"


class Names(Enum):
    """What makes the name of a new file durable."""

    FOLDER = "a sync of its folder"  # all that POSIX promises
    JOURNAL = "a sync of the file, too"  # ext4, xfs, btrfs


@dataclass(eq=False)
class _File:
    cache: bytearray = field(default_factory=bytearray)
    disk: bytearray = field(default_factory=bytearray)
    # Of each dirty page what it held after each write since it was clean, with the event's number.
    dirty: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)
    sizes: list[tuple[int, int]] = field(default_factory=lambda: [(-1, 0)])  # first: on disk

    def write(self, event: int, at: int, data: bytes) -> None:
        end = at + len(data)
        first = min(at, len(self.cache))
        if end > len(self.cache):
            self._resize(event, end)
        self.cache[at:end] = data
        self._soil(event, first, end)

    def truncate(self, event: int, size: int) -> None:
        old = len(self.cache)
        self._resize(event, size)
        self._soil(event, min(old, size), max(old, size))

    def sync(self, since: int, *, failed: bool) -> None:
        """End a sync that began with the event `since`."""
        for number, versions in list(self.dirty.items()):
            covered = [content for event, content in versions if event < since]
            if covered and not failed:
                end = (number + 1) * PAGE
                self.disk.extend(bytes(max(0, end - len(self.disk))))
                self.disk[number * PAGE : end] = covered[-1]
            later = versions[len(covered) :]
            if later:
                self.dirty[number] = later
            else:
                del self.dirty[number]
        if not failed:
            kept = [size for event, size in self.sizes if event < since][-1]
            self.sizes = [(-1, kept)] + [(e, size) for e, size in self.sizes if e >= since]

    def image(self, luck: Luck, chance: random.Random) -> bytes:
        sizes = [size for _, size in self.sizes]
        size = {Luck.NOTHING: sizes[0], Luck.EVERYTHING: sizes[-1]}.get(luck, chance.choice(sizes))
        image = self.disk[:size] + bytes(max(0, size - len(self.disk)))
        if luck is Luck.NOTHING:
            return bytes(image)
        for number, versions in self.dirty.items():
            start = number * PAGE
            on_disk = bytes(self.disk[start : start + PAGE]).ljust(PAGE, b"\0")
            choices = [on_disk, *(content for _, content in versions)]
            if luck is Luck.EVERYTHING:
                content = choices[-1]
            elif luck is Luck.SOME:
                content = chance.choice(choices)
            else:
                content = b"".join(
                    chance.choice(choices)[at : at + SECTOR] for at in range(0, PAGE, SECTOR)
                )
            image[start : start + PAGE] = content[: max(0, size - start)]
        return bytes(image[:size])

    def _resize(self, event: int, size: int) -> None:
        self.cache[size:] = bytes(max(0, size - len(self.cache)))
        self.sizes.append((event, size))

    def _soil(self, event: int, start: int, end: int) -> None:
        for number in range(start // PAGE, -(-end // PAGE)):
            content = bytes(self.cache[number * PAGE : (number + 1) * PAGE]).ljust(PAGE, b"\0")
            self.dirty.setdefault(number, []).append((event, content))


Change = dict[str, _File | None]  # names, and which file is there afterwards


class Disk:
    """The files of one database, on a disk that follows the record event by event."""

    def __init__(self, database: Path, names: Names = Names.FOLDER) -> None:
        self.events = 0
        self.acknowledged: set[str] = set()
        self._database = database
        self._promise = names
        self._files: dict[int, _File] = {}  # by inode
        self._cached: dict[str, _File] = {}
        self._on_disk: dict[str, _File] = {}
        self._changes: list[tuple[int, Change]] = []  # of names, not synced yet
        self._folders: list[tuple[int, str]] = []  # made, not synced yet
        self._begun: dict[int, int] = {}  # the event with which a sync began

    def follow(self, event: Event) -> None:
        """Apply one more event."""
        number = self.events
        self.events += 1
        match event.kind:
            case Kind.ACK:
                self.acknowledged.add(event.name)
            case Kind.CREATE:
                self._files[event.inode] = _File()
                self._change(number, {event.name: self._files[event.inode]})
            case Kind.WRITE:
                self._files[event.inode].write(number, event.at, event.data)
            case Kind.TRUNCATE:
                self._files[event.inode].truncate(number, event.at)
            case Kind.UNLINK:
                self._change(number, {event.name: None})
            case Kind.RENAME:
                moved = self._cached[event.name]
                self._change(number, {event.name: None, event.data.decode(): moved})
            case Kind.MKDIR:
                self._folders.append((number, event.name))
            case Kind.SYNC_BEGIN:
                self._begun[event.at] = number
            case Kind.SYNC_END:
                self._sync(event, since=self._begun.pop(event.at))

    def image(self, luck: Luck, chance: random.Random) -> dict[str, bytes]:
        """Return the content of each file by its name, after a power cut now."""
        if self._folders and self._is_unlucky(luck, chance):
            return {}
        names: dict[str, _File | None] = dict(self._on_disk)
        for _, change in self._changes:
            if not self._is_unlucky(luck, chance):
                names |= change
        return {
            PurePosixPath(name).name: file.image(luck, chance)
            for name, file in names.items()
            if file is not None
        }

    def cached(self) -> dict[str, bytes]:
        """Return what a process that reads the files sees, which must be what is in them."""
        return {PurePosixPath(name).name: bytes(file.cache) for name, file in self._cached.items()}

    def _is_unlucky(self, luck: Luck, chance: random.Random) -> bool:
        return luck is Luck.NOTHING or (luck is not Luck.EVERYTHING and chance.random() < 0.5)

    def _change(self, number: int, change: Change) -> None:
        self._changes.append((number, change))
        _apply(self._cached, change)

    def _sync(self, event: Event, *, since: int) -> None:
        if not event.name:
            file = self._files[event.inode]
            file.sync(since, failed=bool(event.error))
            if self._promise is Names.JOURNAL and not event.error:
                self._folders = [each for each in self._folders if each[0] >= since]
                # Their journal is in order: with a new name goes all that was changed before.
                new = [number for number, change in self._changes if file in change.values()]
                self._keep(min(since, max(new, default=-1) + 1))
        elif not event.error:
            folder = PurePosixPath(event.name)
            self._folders = [
                (number, name)
                for number, name in self._folders
                if number >= since or PurePosixPath(name).parent != folder
            ]
            if folder == PurePosixPath(self._database.parent):
                self._keep(since)

    def _keep(self, since: int) -> None:
        """Put those changes of names on disk that were made before the event `since`."""
        waiting = []
        for number, change in self._changes:
            if number < since:
                _apply(self._on_disk, change)
            else:
                waiting.append((number, change))
        self._changes = waiting


def _apply(names: dict[str, _File], change: Change) -> None:
    for name, file in change.items():
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file
