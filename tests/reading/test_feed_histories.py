"""Random histories: a reader by position has no gap that nobody told it of."""

import random
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from tests.builders import a_message
from webhook_api.models import FeedPosition, FeedQuery, parse_message
from webhook_api.reading.feed import read_feed
from webhook_api.store import messages
from webhook_api.store.connections import connect
from webhook_api.store.lock import LockedConnection, unshared
from webhook_api.store.messages import insert_messages, of_number, remove_messages
from webhook_api.store.positions import (
    PositionLost,
    create_consumer,
    find_consumer,
    list_consumers,
    move_consumer,
    start_of,
)

STEPS = 40
ROUNDS = 200
UNFILTERED = FeedQuery()


class Row(NamedTuple):
    """An insertion, which is never equal to another."""

    created_at: str
    message_id: str


class History:
    """A database that is written, turned back and emptied, and a model of it: rows by their id."""

    def __init__(self, path: Path, random_: random.Random) -> None:
        self.path = path
        self.db = self.opened()
        self.random = random_
        self.rows: dict[int, Row] = {}
        self.removed: dict[int, Row] = {}
        self.missed: dict[str, int] = {}  # of each consumer
        self.backups: list[tuple[bytes, *tuple[dict[Any, Any], ...]]] = []
        self.clock = iter(range(10_000))
        # Every position that was given out, and the insertions before it: those that its reader
        # has seen, and those that were removed by then.
        self.known: list[tuple[FeedPosition, set[Row]]] = []
        self.lost: Counter[str] = Counter()

    def opened(self) -> LockedConnection:
        db = unshared(connect(self.path, "rw", timeout_s=0))
        db.execute("PRAGMA synchronous = OFF")
        return db

    @property
    def model(self) -> tuple[dict[Any, Any], ...]:
        return self.rows, self.removed, self.missed

    def know(self, position: FeedPosition, seen: Iterable[Row]) -> None:
        removed = {row for row_id, row in self.removed.items() if row_id <= position.id}
        self.known.append((position, removed.union(seen)))

    def store(self) -> None:
        created_at = f"2026-01-01T00:00:00.{next(self.clock):04}Z"
        names = [self.random.randrange(40) for _ in range(self.random.randint(1, 4))]
        payloads = [a_message(message_id=f"m{name}", sender=f"+{name}") for name in names]
        with patch.object(messages, "now_as_text", lambda: created_at):
            insert_messages(self.db, [parse_message(payload) for payload in payloads])
        for row_id, name in self.db.execute("SELECT id, message_id FROM messages"):
            self.rows.setdefault(row_id, Row(created_at, name))

    def prune(self) -> None:
        oldest = sorted(self.rows)[: self.random.randint(1, 3)]
        for consumer in list_consumers(self.db):
            self.missed[consumer.name] += sum(one > consumer.position.id for one in oldest)
        remove_messages(self.db, oldest)
        for row_id in oldest:
            self.removed[row_id] = self.rows.pop(row_id)

    def forget(self) -> None:
        for row_id in [one for one in self.rows if self.random.random() < 0.2]:
            self.removed[row_id] = self.rows.pop(row_id)
            number = self.removed[row_id].message_id.replace("m", "+")
            assert remove_messages(self.db, [row_id], of_number(number)) == 1

    def back_up(self) -> None:
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.backups.append((self.path.read_bytes(), *map(dict, self.model)))

    def turn_back(self) -> None:
        if self.backups:
            content, *model = self.random.choice(self.backups)
            self.db.close()
            self.path.write_bytes(content)
            self.db = self.opened()
            self.rows, self.removed, self.missed = map(dict, model)

    def read(self) -> None:
        """Go on at a position that somebody has: it gets all that is new to it, or is told."""
        wanted, seen = self.random.choice(self.known) if self.known else (None, set())
        try:
            part = read_feed(self.db, UNFILTERED, wanted or "start", self.random.randint(1, 100))
        except PositionLost as lost:
            self.lost[lost.body["code"]] += 1
            self.know(start_of(self.db), [])
            return
        after = wanted.id if wanted else 0
        assert {row for row_id, row in self.rows.items() if row_id <= after} <= seen
        expected = [row for row_id, row in sorted(self.rows.items()) if row_id > after]
        names = [one["message_id"] for one in part.messages]
        assert names == [row.message_id for row in expected[: len(names)]]
        assert part.more == (len(names) < len(expected))
        self.know(part.position, seen.union(expected[: len(names)]))

    def consume(self) -> None:
        name = self.random.choice("ab")
        if name not in self.missed:
            create_consumer(self.db, name, "start")
            self.missed[name] = 0
            return
        kept = find_consumer(self.db, name).position
        wanted = start_of(self.db)
        if kept.id >= wanted.id:  # else retention has removed messages after its position
            wanted = read_feed(self.db, UNFILTERED, kept, 3).position
        move_consumer(self.db, name, wanted, {str(kept)})

    def check(self) -> None:
        assert {one.name: one.missed for one in list_consumers(self.db)} == self.missed


def test_no_history_has_a_silent_gap(tmp_path: Path, new_database: Path) -> None:
    lost: Counter[str] = Counter()
    for number in range(ROUNDS):
        path = Path(shutil.copyfile(new_database, tmp_path / f"{number}.db"))
        history = History(path, random.Random(number))
        steps = [history.store, history.prune, history.forget, history.back_up, history.turn_back]
        for step in history.random.choices(
            [*steps, history.read, history.consume], [6, 1, 1, 2, 3, 9, 3], k=STEPS
        ):
            step()
            history.check()
        history.db.close()
        path.unlink()
        lost += history.lost

    assert min(lost["pruned"], lost["diverged"]) > ROUNDS / 10
