"""Cuts the power at many moments of a record, and checks what is on the disk then."""

import random
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tests.store.files import differences
from tests.tools.powercut.disk import Disk, Luck, Names
from tests.tools.powercut.record import Event, Kind
from tests.tools.powercut.shim import Files
from webhook_api.store.database import Database

_MEMORY = "/dev/shm"


class Bad(NamedTuple):
    """An image that breaks the promise."""

    event: int  # before which the power was cut
    luck: Luck
    problem: str


class Findings(NamedTuple):
    """The results for all images of one record."""

    images: int
    acknowledged: int  # before the last of the cuts
    checkpoints: int  # syncs of the database
    failed_syncs: int
    bad: list[Bad]


def cut_often(
    events: Sequence[Event],
    database: Path,
    images: int,
    *,
    seed: int,
    names: Names = Names.FOLDER,
) -> Findings:
    """Cut the power at many moments of the record, and examine what is left.

    A quarter of the moments are just after an acknowledgement, the first and the last among
    them, a quarter just before or after a sync, a quarter in checkpoints, the others anywhere.
    """
    chance = random.Random(seed)
    disk = Disk(database, names)
    bad = []
    cuts = _moments(events, images, chance)
    memory = _MEMORY if Path(_MEMORY).is_dir() else None
    for cut in cuts:
        while disk.events < cut:
            disk.follow(events[disk.events])
        luck = chance.choice(list(Luck))
        with tempfile.TemporaryDirectory(prefix="powercut-", dir=memory) as folder:
            problem = examine(Path(folder), disk.image(luck, chance), disk.acknowledged)
        if problem:
            bad.append(Bad(cut, luck, problem))
    return Findings(
        images=len(cuts),
        acknowledged=len(disk.acknowledged),
        checkpoints=sum(e[:2] == (Kind.SYNC_END, Files.DATABASE) for e in events),
        failed_syncs=sum(e.kind is Kind.SYNC_END and e.error != 0 for e in events),
        bad=bad,
    )


def examine(folder: Path, image: dict[str, bytes], acknowledged: set[str]) -> str | None:
    """Start on what is left, in `folder`, and return what is wrong; None if nothing is."""
    for name, content in image.items():
        (folder / name).write_bytes(content)
    path = folder / "app.db"
    if not path.exists():
        return f"no file, {len(acknowledged)} lost" if acknowledged else None
    database = Database(path)
    try:
        database.prepare(create=True)  # as the next start does
        database.close()
        different = differences(path)
        with closing(sqlite3.connect(path)) as db:
            integrity = [line for (line,) in db.execute("PRAGMA integrity_check")]
            stored = [message_id for (message_id,) in db.execute("SELECT message_id FROM messages")]
    except Exception as error:  # whatever it is, the service would not start
        return f"{type(error).__name__}: {error}"
    lost = len(acknowledged.difference(stored))
    twice = len(stored) - len(set(stored))
    problems = [
        f"{lost} lost" if lost else "",
        f"{twice} twice" if twice else "",
        f"integrity_check: {integrity[0]}" if integrity != ["ok"] else "",
        *different[:1],
    ]
    return "; ".join(filter(None, problems)) or None


def _moments(events: Sequence[Event], images: int, chance: random.Random) -> list[int]:
    """Return before which events to cut, in their order."""
    after_acks = [at + 1 for at, event in enumerate(events) if event.kind is Kind.ACK]
    syncs = [at for at, e in enumerate(events) if e.kind in (Kind.SYNC_BEGIN, Kind.SYNC_END)]
    around_syncs = [at + after for at in syncs for after in (0, 1)]
    checkpoints = [at + 1 for at, e in enumerate(events) if e[:2] == (Kind.WRITE, Files.DATABASE)]
    certain = {after_acks[0], after_acks[-1]} if after_acks else set()
    chosen = {*certain}
    anywhere = range(1, len(events) + 1)
    kinds = [kind for kind in (after_acks, around_syncs, checkpoints, anywhere) if kind]
    while len(chosen) < min(images, len(events)):
        chosen.add(chance.choice(chance.choice(kinds)))
    return sorted(chosen)
