"""What is derived from the messages in bulk, a little after they were stored.

Doing it for many rows at once costs a third of doing it with each commit. `totals.indexed` says
how far it is; the rows above it are few, and whoever reads looks at them one by one.
"""

import sqlite3
from collections import Counter

from webhook_api.store.folding import NUL_MARK
from webhook_api.store.transactions import transaction

PERIOD_SCALE = 20  # of `sender_periods`: a period has 2^20 seconds, some 12 days


def index_messages(db: sqlite3.Connection, *, most: int) -> int:
    """Index up to `most` of the rows that are not yet indexed; return how many that were.

    It is one transaction, which the caller's write lock protects.

    Raises:
        sqlite3.Error: nothing was indexed.
    """
    with transaction(db):
        last, rows = db.execute(
            "SELECT max(id), count(*) FROM (SELECT id FROM messages"
            " WHERE id > (SELECT indexed FROM totals) ORDER BY id LIMIT ?)",
            [most],
        ).fetchone()
        if not rows:
            return 0
        db.execute(
            "INSERT INTO messages_search (rowid, body) SELECT id, body FROM searchable"
            " WHERE id > (SELECT indexed FROM totals) AND id <= ?",
            [last],
        )
        db.execute(
            f"INSERT INTO sender_periods SELECT seconds >> {PERIOD_SCALE}, from_msisdn, count(*)"
            " FROM messages WHERE id > (SELECT indexed FROM totals) AND id <= ? GROUP BY 1, 2"
            " ON CONFLICT DO UPDATE SET messages = messages + excluded.messages",
            [last],
        )
        texts = db.execute(
            "SELECT lower(body) FROM searchable"
            " WHERE id > (SELECT indexed FROM totals) AND id <= ?",
            [last],
        )
        db.executemany(
            "INSERT INTO characters VALUES (?, ?)"
            " ON CONFLICT DO UPDATE SET messages = messages + excluded.messages",
            count_characters(texts).items(),
        )
        db.execute("UPDATE totals SET indexed = ?", [last])
    return int(rows)


def count_characters(texts: sqlite3.Cursor) -> Counter[str]:
    """Return in how many of `texts`, a column of folded ones, each character is."""
    counts: Counter[str] = Counter()
    for (text,) in texts:
        counts.update(set(text))
    del counts[NUL_MARK]  # stands for U+0000, for itself, and at the end of each text
    return counts
