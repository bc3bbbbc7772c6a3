"""Dead letters: signed deliveries that could not be stored as messages, kept as they came."""

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import unquote, unquote_plus

from webhook_api.errors import Unavailable
from webhook_api.models import mended
from webhook_api.store.lock import LockedConnection
from webhook_api.store.messages import Selection

MAX_DEAD_LETTERS = 10_000
MAX_DEAD_BYTES = 256 * 1024 * 1024

_COLUMNS = "provider, reason, headers, body, created_at"
# What people and programs put between the digits of a number.
_BETWEEN = r"[\s().+\x80-\U0010ffff-]*"
_ESCAPED = re.compile(r"(?<!\\)\\+u([0-9a-fA-F]{4})")


class DeadLettersFull(Unavailable):
    """No more dead letters can be kept: the provider has to keep the delivery."""


class DeadLetter(NamedTuple):
    """A delivery as it came at the time `created_at`. `headers` have names in lower case."""

    provider: str
    reason: str
    headers: Mapping[str, str]
    body: bytes
    created_at: str


def insert_dead_letters(db: LockedConnection, letters: Sequence[DeadLetter]) -> list[int]:
    """Keep `letters`, in the caller's transaction; return their numbers.

    Raises:
        DeadLettersFull: there would be too many, or they would be too long.
    """
    count, size = db.execute("SELECT dead_letters, dead_bytes FROM totals").fetchone()
    size += sum(len(letter.body) for letter in letters)
    if count + len(letters) > MAX_DEAD_LETTERS or size > MAX_DEAD_BYTES:
        raise DeadLettersFull("there are too many dead letters: flask --app wsgi dead-letters")
    insert = f"INSERT INTO dead_letters ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)"
    numbers = []
    for provider, reason, headers, *rest in letters:
        inserted = db.execute(insert, [provider, reason, json.dumps(headers), *rest])
        numbers.append(inserted.lastrowid or 0)
    return numbers


def dead_letter_sizes(db: sqlite3.Connection) -> Iterator[tuple[int, str, str, str, int]]:
    """Yield number, time, provider, reason and length of each dead letter, oldest first."""
    yield from db.execute(
        "SELECT id, created_at, provider, reason, length(body) FROM dead_letters ORDER BY id"
    )


def find_dead_letter(db: sqlite3.Connection, number: int) -> DeadLetter | None:
    """Return a dead letter; None if there is none with this number."""
    row = db.execute(f"SELECT {_COLUMNS} FROM dead_letters WHERE id = ?", [number]).fetchone()
    return row and DeadLetter(row[0], row[1], json.loads(row[2]), row[3], row[4])


def select_dead_letters(db: sqlite3.Connection, selection: Selection, limit: int = -1) -> list[int]:
    """Return the numbers of those that `selection` selects: all, or the first `limit`.

    A number is found in a body that has its digits one after the other, however they are separated;
    any other address only as it is. Both are also found where a form or JSON escapes them.
    """
    if selection.address is None:
        found = db.execute(
            f"SELECT id FROM dead_letters WHERE {selection.condition} ORDER BY id LIMIT {limit}",
            selection.parameters,
        )
        return [number for (number,) in found]
    pattern = address_pattern(selection.address)
    bodies = db.execute("SELECT id, body FROM dead_letters ORDER BY id")
    return [number for number, body in bodies if any(map(pattern.search, _forms(body)))]


def remove_dead_letters(db: LockedConnection, numbers: Sequence[int]) -> int:
    """Remove dead letters in the caller's transaction; return how many there were."""
    marks = ", ".join("?" * len(numbers))
    return db.execute(f"DELETE FROM dead_letters WHERE id IN ({marks})", numbers).rowcount


def address_pattern(address: str) -> re.Pattern[str]:
    """Return what finds `address` in a text without escapes."""
    if re.fullmatch(r"\+[0-9]+", address):
        return re.compile(f"(?<![0-9]){_BETWEEN.join(address[1:])}(?![0-9])")
    forms = {address, json.dumps(address, ensure_ascii=False)[1:-1]}
    return re.compile("|".join(map(re.escape, forms)))


def _forms(body: bytes) -> Iterator[str]:
    """Yield what `body` says: as it is, and without the escapes of forms and of JSON."""
    text = body.decode(errors="replace")
    yield text
    for decode in (unquote, unquote_plus):
        yield mended(_ESCAPED.sub(lambda match: chr(int(match[1], 16)), decode(text)))
