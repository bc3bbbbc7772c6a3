"""Substring search in any case and script: a phrase as conditions on a row and on the index."""

import sqlite3

from webhook_api.store.folding import NUL, NUL_MARK, fold

_INDEXED_CHARS = 3  # the index holds runs of three characters
_MAX_PHRASE_CHARS = 32  # the index looks for this start of a phrase; then the rows are compared

# The index treats these all as U+FFFD (READ_UTF8 in SQLite's utf.c); a comparison does not.
_ALIKE_IN_INDEX = {0xFFFD: 0xFFFD, 0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD}
_LAST_CHARACTER = "\U0010ffff"


class Phrase:
    """The parameter `q` as an SQL condition on a row `m` of messages, and as terms of the index."""

    def __init__(self, q: str) -> None:
        self.text = q
        self._folded = fold(q)
        self._marked = self._folded.replace(NUL, NUL_MARK)
        self._indexed = self._marked.translate(_ALIKE_IN_INDEX)
        self._has_mark = NUL_MARK in self._marked

    @property
    def condition(self) -> str:
        """SQL that is true for a row whose text has the phrase; it needs `parameters`."""
        has_it = "instr(lower(coalesce(m.folded, m.text)), ?)"
        return f"{has_it} AND has_phrase(m.text, ?)" if self._has_mark else has_it

    @property
    def parameters(self) -> list[object]:
        return [self._marked, self._folded] if self._has_mark else [self._marked]

    @property
    def index_decides(self) -> bool:
        """Whether every row that the index finds has the phrase, so that none is compared."""
        return (
            not self._has_mark
            and _ALIKE_IN_INDEX.keys().isdisjoint(map(ord, self._folded))
            and len(self._folded) <= _MAX_PHRASE_CHARS
        )

    @property
    def match(self) -> str | None:
        """The phrase or its start as an FTS5 query; None if it is shorter than a term."""
        return quoted(self._indexed[:_MAX_PHRASE_CHARS]) if not self.is_short else None

    @property
    def is_short(self) -> bool:
        """Whether the phrase is shorter than a term of the index."""
        return len(self._indexed) < _INDEXED_CHARS

    @property
    def term_range(self) -> list[str]:
        """The lowest term that starts with a short phrase, and a text above the highest one."""
        return [self._indexed, self._indexed + _INDEXED_CHARS * _LAST_CHARACTER]

    @property
    def character(self) -> str | None:
        """The phrase as a key of the table `characters`, if it is a single character."""
        return self._folded if len(self._folded) == 1 and not self._has_mark else None

    def prepare(self, db: sqlite3.Connection) -> None:
        """Define in `db` the function that `condition` may use."""
        if self._has_mark:
            db.create_function("has_phrase", 2, _has_phrase, deterministic=True)


def quoted(text: str) -> str:
    """Return an FTS5 query for `text`, in which nothing is an operator."""
    return '"' + text.replace('"', '""') + '"'


def _has_phrase(text: str | None, folded: str) -> bool:
    return text is not None and folded in fold(text)
