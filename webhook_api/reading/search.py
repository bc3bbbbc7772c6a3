"""Substring search in any case and script: how many rows have a phrase, and which are on a page."""

import sqlite3
from collections.abc import Sequence
from functools import cached_property

from webhook_api.models import MessageQuery
from webhook_api.reading.conditions import Conditions, CountCache, Order, count_rows
from webhook_api.store.connections import Connection
from webhook_api.store.counting import Totals
from webhook_api.store.folding import NUL, NUL_MARK, fold

_INDEXED_CHARS = 3  # the index holds runs of three characters
_MAX_PHRASE_CHARS = 32  # the index looks for this start of a phrase; then the rows are compared
# The index treats these all as U+FFFD (READ_UTF8 in SQLite's utf.c); a comparison does not.
_ALIKE_IN_INDEX = {0xFFFD: 0xFFFD, 0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD}
_LAST_CHARACTER = "\U0010ffff"

_FEW_ROWS = 2000  # reading these takes no longer than asking the index
_FIRST_WALK = 1000  # rows that may always be read in order to fill a page
_CHEAPER = 4  # reading a row's text costs as much as so many occurrences in the index
_COMMON = 4  # if one row in four has a character, reading the rows finds it fast
# An OR checks each of its terms for each hit. With more terms than this it is cheaper to read
# all their occurrences.
_MAX_TERMS = 200


class Phrase:
    """The parameter `q` as an SQL condition on a row `m` of messages, and as terms of the index."""

    def __init__(self, db: sqlite3.Connection, q: str) -> None:
        """Define in `db` the function that `conditions` may use."""
        self.text = q
        self._folded = fold(q)
        self._marked = self._folded.replace(NUL, NUL_MARK)
        indexed = self._marked.translate(_ALIKE_IN_INDEX)
        has_mark = NUL_MARK in self._marked
        # True for a row whose text has the phrase.
        self.conditions = Conditions().also(
            "instr(lower(coalesce(m.folded, m.text)), ?)", self._marked
        )
        if has_mark:
            db.create_function("has_phrase", 2, _has_phrase, deterministic=True)
            self.conditions = self.conditions.also("has_phrase(m.text, ?)", self._folded)
        # Whether every row that the index finds has the phrase, so that none is compared.
        self.index_decides = (
            not has_mark
            and _ALIKE_IN_INDEX.keys().isdisjoint(map(ord, self._folded))
            and len(self._folded) <= _MAX_PHRASE_CHARS
        )
        # The phrase or its start as an FTS5 query; None if it is shorter than a term.
        is_short = len(indexed) < _INDEXED_CHARS
        self.match = None if is_short else quoted(indexed[:_MAX_PHRASE_CHARS])
        # The lowest term that starts with a short phrase, and a text above the highest one.
        self.term_range = [indexed, indexed + _INDEXED_CHARS * _LAST_CHARACTER]
        # The phrase as a key of the table `characters`, if it is a single character.
        self.character = self._folded if len(self._folded) == 1 and not has_mark else None


def quoted(text: str) -> str:
    """Return an FTS5 query for `text`, in which nothing is an operator."""
    return '"' + text.replace('"', '""') + '"'


def _has_phrase(text: str | None, folded: str) -> bool:
    return text is not None and folded in fold(text)


class PhraseSearch:
    """One search for a phrase, in the snapshot that a connection reads."""

    def __init__(
        self,
        db: Connection,
        q: str,
        matching: Conditions,
        candidates: int,
        totals: Totals,
    ) -> None:
        """`candidates` is how many rows match the other conditions: one at least."""
        self._db = db
        self._phrase = Phrase(db, q)
        self._matching = matching
        self._hit = matching & self._phrase.conditions
        self._candidates = candidates
        self._totals = totals

    def count(self, counts: CountCache) -> int:
        """Return how many rows match, with the help of earlier counts."""
        if self._phrase.character and not self._matching.terms:
            newer = count_rows(self._db, self._hit, self._totals.indexed, by_id=True)
            return self._rows_of_character + newer
        if self._candidates == 1:
            return count_rows(self._db, self._hit)
        key = (self._db.identity, self._phrase.text, self._matching)
        return counts.count(key, self._db, self._count_after)

    def _count_after(self, row_id: int) -> int:
        if self._totals.newest - row_id <= _FEW_ROWS:
            return count_rows(self._db, self._hit, row_id, by_id=True)
        if not self._by_index:
            return count_rows(self._db, self._hit, row_id)
        newer = count_rows(self._db, self._hit, max(row_id, self._totals.indexed), by_id=True)
        return self._count_indexed(row_id) + newer

    def _count_indexed(self, above: int) -> int:
        found, parameters = self._found_in_index(above)
        sql = f"SELECT count(*) FROM ({found}) hit"
        if self._matching.terms:
            # The candidates' ids are read from an index alone. The plus keeps SQLite from asking
            # the search index for each of them.
            sql += f" WHERE +hit.id IN (SELECT m.id FROM messages m WHERE {self._matching.sql})"
            parameters += self._matching.parameters
        return int(self._db.execute(sql, parameters).fetchone()[0])

    def ids(self, query: MessageQuery, on_page: Conditions, order: Order, total: int) -> list[int]:
        """Return the ids of a page and of one row more, when `total` rows match.

        `on_page` are all conditions except the phrase, on the rows from where the page starts.

        There are two ways. A walk reads the candidates in order until the page is full: about
        `candidates / total` of them for each hit, if the hits are spread evenly. The other way
        finds all hits and sorts them, and reads `total` rows. The walk is tried where it should
        read fewer; when it has read `total` rows in vain, the other way is taken.
        """
        expected_rows = (query.offset + query.limit + 1) * self._candidates / total
        if expected_rows < total:
            max_rows = max(total, _FIRST_WALK)
            ids = self._walk(query, on_page, order, max_rows)
            in_order = f"WHERE {on_page.sql} ORDER BY {order.sql}"
            rest = f"SELECT m.id FROM messages m {in_order} LIMIT 1 OFFSET ?"
            if len(ids) > query.limit or not self._ids(rest, [*on_page.parameters, max_rows]):
                return ids
        if self._by_index:
            return self._sorted(query, on_page, order)
        return self._walk(query, on_page, order, self._candidates)

    def _walk(
        self, query: MessageQuery, on_page: Conditions, order: Order, max_rows: int
    ) -> list[int]:
        """Return the ids of the page that are found in the first `max_rows` candidates."""
        phrase = self._phrase.conditions
        return self._ids(
            f"SELECT m.id FROM (SELECT m.id, m.text, m.folded FROM messages m WHERE {on_page.sql}"
            f" ORDER BY {order.sql} LIMIT ?) m WHERE {phrase.sql} LIMIT ? OFFSET ?",
            [*on_page.parameters, max_rows, *phrase.parameters, query.limit + 1, query.offset],
        )

    def _sorted(self, query: MessageQuery, on_page: Conditions, order: Order) -> list[int]:
        """Return the ids of the page, from all hits: those in the index, and the newer rows."""
        indexed, parameters = self._found_in_index()
        newer = Conditions().also("m.id > ?", self._totals.indexed) & self._phrase.conditions
        return self._ids(
            f"SELECT m.id FROM ({indexed} UNION ALL"
            f" SELECT m.id FROM messages m WHERE {newer.sql}) hit"
            f" CROSS JOIN messages m ON m.id = hit.id WHERE {on_page.sql}"
            f" ORDER BY {order.sql} LIMIT ? OFFSET ?",
            [*parameters, *newer.parameters, *on_page.parameters, query.limit + 1, query.offset],
        )

    @cached_property
    def _by_index(self) -> bool:
        """Whether to ask the search index, or else to read all candidates."""
        if self._candidates <= _FEW_ROWS and self._candidates < self._totals.messages:
            return False
        if self._phrase.match:
            return True
        if self._phrase.character and self._rows_of_character * _COMMON > self._candidates:
            return False
        match, occurrences = self._terms
        if match is None:
            return occurrences <= self._candidates
        return not self._matching.terms or occurrences <= _CHEAPER * self._candidates

    @cached_property
    def _rows_of_character(self) -> int:
        """How many indexed rows have the phrase, which is a single character."""
        row = self._db.execute(
            "SELECT messages FROM characters WHERE character = ?", [self._phrase.character]
        ).fetchone()
        return int(row[0]) if row else 0

    @cached_property
    def _terms(self) -> tuple[str | None, int]:
        """A query for all terms that start with a short phrase, and how often these occur.

        The query is None if they are too many.
        """
        found = self._db.execute(
            "SELECT term, cnt FROM search_terms WHERE term >= ? AND term < ?",
            self._phrase.term_range,
        ).fetchall()
        # Without any term: a query that matches nothing.
        match = " OR ".join(quoted(term) for term, _ in found) or quoted("")
        return match if len(found) <= _MAX_TERMS else None, sum(number for _, number in found)

    def _found_in_index(self, above: int = 0) -> tuple[str, list[object]]:
        """Return SQL for the indexed ids above `above` that have the phrase, and its parameters."""
        phrase = self._phrase
        match = phrase.match or self._terms[0]
        parameters: list[object]
        if match is not None:
            row, sql = "s.rowid", "SELECT s.rowid AS id FROM messages_search s"
            where, parameters = "s.messages_search MATCH ? AND s.rowid > ?", [match, above]
        else:
            row, sql = "s.doc", "SELECT DISTINCT s.doc AS id FROM search_places s"
            where = "s.term >= ? AND s.term < ? AND s.doc > ?"
            parameters = [*phrase.term_range, above]
        if not phrase.index_decides:
            sql += f" CROSS JOIN messages m ON m.id = {row}"
            where += f" AND {phrase.conditions.sql}"
            parameters += phrase.conditions.parameters
        return f"{sql} WHERE {where}", parameters

    def _ids(self, sql: str, parameters: Sequence[object]) -> list[int]:
        return [row_id for (row_id,) in self._db.execute(sql, parameters)]
