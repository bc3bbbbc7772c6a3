"""Load, kill -9 of every process, start again: how much of what was acknowledged is gone?

`python -m tests.kill_rounds 20` prints a table of so many rounds.
"""

import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tests.serving import Load, serving


class Round(NamedTuple):
    """What one round found, in the file as the next start would find it."""

    acknowledged: int
    lost: int
    stored: int
    integrity: str


def kill_rounds(folder: Path, *, rounds: int, load_s: float) -> Iterator[Round]:
    """Load the service for `load_s` seconds and kill it, again and again on the same file."""
    acknowledged: set[str] = set()
    for number in range(rounds):
        with serving(folder, WEB_CONCURRENCY=2) as server, Load(server, f"r{number}") as load:
            time.sleep(load_s)
            server.kill()
        acknowledged |= load.acknowledged
        stored = server.ids()
        with closing(sqlite3.connect(server.database)) as connection:
            integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
        yield Round(len(load.acknowledged), len(acknowledged - stored), len(stored), integrity)


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        print("round  acknowledged  lost of all so far  stored  integrity_check")  # noqa: T201
        for number, found in enumerate(kill_rounds(Path(folder), rounds=rounds, load_s=1.5), 1):
            print(  # noqa: T201
                f"{number:5}  {found.acknowledged:12}  {found.lost:18}  {found.stored:6}"
                f"  {found.integrity}"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]))
