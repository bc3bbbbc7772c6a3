"""Substring search in any case and script: how text is folded, indexed, matched and counted."""

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple

MIN_INDEXED_CHARS = 3  # the index holds runs of three characters
_MAX_PHRASE_CHARS = 32  # longer phrases find candidates by their start, which are then compared

_REMEMBERED_CHARS = 8192

# SQLite's text functions stop at U+0000, so folded text has U+0001 in its place. A phrase with
# either is looked for in the text itself.
_NUL, _NUL_MARK = "\x00", "\x01"

# To the index these are all U+FFFD (READ_UTF8 in SQLite's utf.c); to the comparison they differ.
_ALIKE_IN_INDEX = frozenset("\ufffd\ufffe\uffff")


class _SimpleFolding(dict[int, str]):
    """Unicode's simple case folding (C and S of CaseFolding.txt) for `str.translate`.

    It maps one character to one, so a match in folded text is a match in the text: `str.casefold`
    would also turn one ß into two characters.
    """

    def __missing__(self, code_point: int) -> str:
        character = chr(code_point)
        folded = character.casefold()
        if len(folded) > 1:
            folded = character.lower()
        if len(folded) > 1:
            folded = character
        # A stranger's `q` may hold any character, and all of them would be 200 MB.
        if len(self) < _REMEMBERED_CHARS:
            self[code_point] = folded
        return folded


_FOLDING = _SimpleFolding()


def fold(text: str) -> str:
    """Return `text` without differences of case."""
    return text.lower() if text.isascii() else text.translate(_FOLDING)


def folded_form(text: str | None) -> str | None:
    """Return what `messages.folded` holds: None where SQLite's `lower(text)` gives the same.

    That `lower` knows ASCII only. Storing the rest beside the text, and only where it differs,
    keeps Python out of every query: what the index and the comparisons see is SQL alone.
    """
    if text is None or (text.isascii() and _NUL not in text):
        return None
    folded = fold(text).replace(_NUL, _NUL_MARK)
    return None if folded == "".join(c.lower() if c.isascii() else c for c in text) else folded


class Phrase:
    """What `q` asks for, as SQL conditions on a row `m` of messages."""

    def __init__(self, q: str) -> None:
        self.text = q
        self.folded = fold(q)
        self.exact = _NUL in q or _NUL_MARK in q
        self.indexed = len(q) >= MIN_INDEXED_CHARS and not self.exact

    @property
    def condition(self) -> str:
        """True of a row whose text has the phrase; its one parameter is `parameter`."""
        if self.exact:
            return "has_phrase(m.text, ?)"
        return "instr(lower(coalesce(m.folded, m.text)), ?)"

    @property
    def parameter(self) -> str:
        return self.folded

    @property
    def match(self) -> str:
        """The phrase, or the start of it, as an FTS5 query without any operator."""
        return '"' + self.folded[:_MAX_PHRASE_CHARS].replace('"', '""') + '"'

    @property
    def match_is_exact(self) -> bool:
        """Whether every row that `match` finds has the phrase."""
        return len(self.folded) <= _MAX_PHRASE_CHARS and _ALIKE_IN_INDEX.isdisjoint(self.folded)

    def prepare(self, db: sqlite3.Connection) -> None:
        """Give `db` the function that `condition` may use."""
        if self.exact:
            db.create_function("has_phrase", 2, _has_phrase, deterministic=True)


def _has_phrase(text: str | None, folded: str) -> bool:
    return text is not None and folded in fold(text)


class _Count(NamedTuple):
    deletions: int
    up_to: int
    messages: int


class CountCache:
    """Counts of searches, kept exact by counting only what was filed since.

    Rows never change and their ids only grow, so a count of the rows up to some id stays true
    until a row is removed. Safe to use from several threads.
    """

    def __init__(self, size: int = 512) -> None:
        self._size = size
        self._counts: OrderedDict[Hashable, _Count] = OrderedDict()
        self._lock = threading.Lock()

    def count(
        self, key: Hashable, *, deletions: int, last_id: int, count_after: Callable[[int], int]
    ) -> int:
        """Return the count of the search `key` in a snapshot whose newest row is `last_id`.

        `count_after(id)` counts the snapshot's matching rows above `id`.
        """
        with self._lock:
            known = self._counts.get(key)
        if known is None or known.deletions != deletions or known.up_to > last_id:
            known = _Count(deletions, 0, 0)
        total = known.messages + count_after(known.up_to)
        with self._lock:
            self._counts[key] = _Count(deletions, last_id, total)
            self._counts.move_to_end(key)
            if len(self._counts) > self._size:
                self._counts.popitem(last=False)
        return total
