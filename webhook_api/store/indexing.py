"""Indexes that are updated for many messages at once, a little after these were stored.

This costs a third of updating them with each commit. `totals.indexed` is the id up to which rows
are in them. There are few rows above it, and a reader looks at each of these.
"""

import sqlite3
from collections import Counter

from webhook_api.store.folding import NUL_MARK, folded_form
from webhook_api.store.lock import LockedConnection, transaction

PERIOD_SCALE = 20  # of the table `sender_periods`: a period is 2^20 seconds, about 12 days
_INDEX = "INSERT INTO messages_search (messages_search, rowid, body)"
_CHARS_OF_A_ROW = 32  # a row takes as long to index as so many characters of its text


def index_messages(db: LockedConnection, *, max_rows: int, max_chars: int | None = None) -> int:
    """Index up to `max_rows` rows that are not yet indexed, in one transaction; return how many.

    With `max_chars` it stops after the row with which the texts reach so many characters. In
    Chinese, each takes 3 to 6 microseconds, since nearly each starts a new term.
    """
    with transaction(db):
        found = "SELECT id, text, folded FROM messages WHERE id > (SELECT indexed FROM totals)"
        limits = [max_rows]
        if max_chars is not None:
            chars = f"sum({_CHARS_OF_A_ROW} + coalesce(length(coalesce(folded, text)), 0))"
            found = (
                f"SELECT id FROM (SELECT id, {chars} OVER (ORDER BY id ROWS BETWEEN UNBOUNDED"
                f" PRECEDING AND 1 PRECEDING) AS before FROM ({found} ORDER BY id LIMIT ?))"
                " WHERE coalesce(before, 0) < ?"
            )
            limits = [max_rows, max_chars, max_rows]
        last, rows = db.execute(
            f"SELECT max(id), count(*) FROM ({found} ORDER BY id LIMIT ?)", limits
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
        _add_characters(db, count_characters(texts))
        db.execute("UPDATE totals SET indexed = ?", [last])
    return int(rows)


def refold(db: LockedConnection) -> None:
    """Make the column `folded` again where `fold` has changed, and index these rows again.

    In the caller's transaction.
    """
    db.create_function("folded_form", 1, folded_form, deterministic=True)
    rows = db.execute("SELECT id FROM messages WHERE folded IS NOT folded_form(text)").fetchall()
    (final,) = db.execute("SELECT sql FROM sqlite_master WHERE name = 'messages_are_final'")
    db.execute("DROP TRIGGER messages_are_final")
    indexed = (
        "SELECT id, body, lower(body) FROM searchable"
        " WHERE id = ? AND id <= (SELECT indexed FROM totals)"
    )
    characters: Counter[str] = Counter()
    for row in rows:
        for *before, text in db.execute(indexed, row).fetchall():
            db.execute(f"{_INDEX} VALUES ('delete', ?, ?)", before)
            characters.subtract(set(text))
        db.execute("UPDATE messages SET folded = folded_form(text) WHERE id = ?", row)
        for *after, text in db.execute(indexed, row).fetchall():
            db.execute(f"{_INDEX} VALUES (NULL, ?, ?)", after)
            characters.update(set(text))
    _add_characters(db, characters)
    db.execute(*final)


def _add_characters(db: LockedConnection, counts: Counter[str]) -> None:
    db.executemany(
        "INSERT INTO characters VALUES (?, ?)"
        " ON CONFLICT DO UPDATE SET messages = messages + excluded.messages",
        counts.items(),
    )


def count_unindexed(db: sqlite3.Connection, *, max_rows: int) -> int:
    """Return how many rows are not indexed yet, at most `max_rows`."""
    count: int = db.execute(
        "SELECT count(*) FROM (SELECT 1 FROM messages"
        " WHERE id > (SELECT indexed FROM totals) LIMIT ?)",
        [max_rows],
    ).fetchone()[0]
    return count


def count_characters(texts: sqlite3.Cursor) -> Counter[str]:
    """Return for each character how many of `texts` have it; they are folded already."""
    counts: Counter[str] = Counter()
    for (text,) in texts:
        counts.update(set(text))
    del counts[NUL_MARK]  # every text ends with it, so its count says nothing
    return counts
