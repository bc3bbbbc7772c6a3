"""Let each write or sync of a group commit fail in turn: python -m, in a process with the shim.

Writes how many rounds there were, and how many deliveries and probes were refused.
"""

import errno
import os
import sqlite3
import sys
from pathlib import Path

from tests.intake.commits import Record, message, store_one
from tests.tools.powercut.shim import Calls, Faults, Files
from webhook_api.errors import Unavailable
from webhook_api.intake.group_commit import GroupCommit
from webhook_api.store.database import Database
from webhook_api.store.writer import Writer

FILES = Files.DATABASE | Files.WAL | Files.LOCK | Files.OTHER
ERRORS = {Calls.WRITE: errno.ENOSPC, Calls.SYNC: errno.EIO}


def fail_each(path: Path, calls: Calls) -> tuple[int, int]:
    """Fail the first call in the first round, and so on, until a round has no such call."""
    faults = Faults.of_this_process()
    database = Database(path)
    database.prepare(create=True)
    writer = Writer(database, index_every=2, checkpoint_every=20, retry_upkeep_s=0)
    commits = GroupCommit(
        database, Record(), writer=writer, deadline_s=5, max_waiting=10, probe_valid_s=0
    )
    acknowledged: set[str] = set()
    rounds = refused = 0
    faulty = True
    while faulty:
        ids = [f"{rounds}-{part}" for part in range(2)]
        fault = faults.fail(FILES, calls, ERRORS[calls], skip=rounds, times=1)
        rounds += 1
        for message_id in ids:
            try:
                store_one(commits, message(message_id=message_id))
                acknowledged.add(message_id)
            except Unavailable:
                refused += 1
        try:
            commits.check(5)
        except Unavailable:
            refused += 1
        faulty = fault.hits > 0
        fault.lift()
        for message_id in ids:
            store_one(commits, message(message_id=message_id))
            acknowledged.add(message_id)
        with database.reader() as reader:
            stored = [row[0] for row in reader.execute("SELECT message_id FROM messages")]
        assert sorted(stored) == sorted(acknowledged), rounds
    commits.close()
    database.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return rounds, refused


if __name__ == "__main__":
    rounds, refused = fail_each(Path(os.environ["POWERCUT_DATABASE"]), Calls[sys.argv[1]])
    sys.stdout.write(f"{rounds} {refused}\n")
