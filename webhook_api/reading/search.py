"""The rows that contain a phrase: how many there are, and which of them are on a page."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from webhook_api.models import MessageFilter, MessageQuery
from webhook_api.reading.conditions import Conditions, Order, load_position
from webhook_api.reading.count_cache import CountCache
from webhook_api.reading.phrase import Phrase, quoted
from webhook_api.store.connections import Connection
from webhook_api.store.counting import Totals

_FEW_ROWS = 2000  # reading these takes no longer than asking the index
_FIRST_WALK = 1000  # rows that may always be read in order to fill a page
_CHEAPER = 4  # reading a place in the index is so many times cheaper than a row and its text
_COMMON = 4  # if one row in four has a character, reading the rows finds it fast
# An OR looks at each of its terms for each hit. With more terms than this it is cheaper to read
# all their places.
_MAX_TERMS = 200


class _Terms(NamedTuple):
    """The terms of the index that start with a short phrase."""

    match: str | None  # a query for all of them; None if there are too many
    places: int  # how often they occur in all texts


class PhraseSearch:
    """One search for a phrase, in the snapshot that a connection reads."""

    def __init__(
        self,
        db: Connection,
        wanted: MessageFilter,
        phrase: Phrase,
        totals: Totals,
        candidates: int,
        order: Order,
    ) -> None:
        """Search the `candidates` rows that match the other filters of `wanted`."""
        self._order = order
        self._db = db
        self._wanted = wanted
        self._phrase = phrase
        self._totals = totals
        self._candidates = candidates
        self._rows = Conditions.matching(wanted)

    def count(self, counts: CountCache) -> int:
        """Return how many rows match, with the help of earlier counts."""
        if self._phrase.character and not self._rows.conditions:
            return self._rows_of_character + self._count_newer(self._totals.indexed)
        if self._wanted.message_id is not None:
            return self._count_read(0)
        key = (self._db.identity, self._phrase.text, *self._rows.key)
        return counts.count(key, self._db, self._count_after)

    def ids(self, query: MessageQuery, total: int) -> list[int]:
        """Return the ids of a page and of one row more, when `total` rows match.

        Either all hits are sorted, or the candidates are read in order until the page is full.
        The first way reads `total` rows. The second reads `candidates / total` rows for each hit
        if the hits are spread evenly; if it has read `total` rows, it gives up, and the first way
        is taken.
        """
        expected_walk = (query.offset + query.limit + 1) * self._candidates / total
        if expected_walk < total:
            budget = max(total, _FIRST_WALK)
            ids = self._walk(query, budget)
            if len(ids) > query.limit or not self._reaches_beyond(query, budget):
                return ids
        return self._sorted(query) if self._by_index else self._walk(query, self._candidates)

    @cached_property
    def _by_index(self) -> bool:
        """Whether to ask the search index, or else to read all candidates."""
        if self._candidates <= _FEW_ROWS and self._candidates < self._totals.messages:
            return False
        if not self._phrase.is_short:
            return True
        if self._phrase.character and self._rows_of_character * _COMMON > self._candidates:
            return False
        if self._terms.match is None:
            return self._terms.places <= self._candidates
        return not self._rows.conditions or self._terms.places <= _CHEAPER * self._candidates

    @cached_property
    def _rows_of_character(self) -> int:
        """How many indexed rows have the phrase, which is a single character."""
        row = self._db.execute(
            "SELECT messages FROM characters WHERE character = ?", [self._phrase.character]
        ).fetchone()
        return int(row[0]) if row else 0

    @cached_property
    def _terms(self) -> "_Terms":
        """The terms that start with a short phrase."""
        found = self._db.execute(
            "SELECT term, cnt FROM search_terms WHERE term >= ? AND term < ?",
            self._phrase.term_range,
        ).fetchall()
        few = len(found) <= _MAX_TERMS
        # Without any term: a query that matches nothing.
        match = " OR ".join(quoted(term) for term, _ in found) or quoted("")
        return _Terms(match if few else None, sum(places for _, places in found))

    def _count_after(self, row_id: int) -> int:
        newest = self._scalar("SELECT max(id) FROM messages", [])
        if newest - row_id <= _FEW_ROWS:
            return self._count_newer(row_id)
        if not self._by_index:
            return self._count_read(row_id)
        return self._count_indexed(row_id) + self._count_newer(max(row_id, self._totals.indexed))

    def _count_indexed(self, above: int) -> int:
        found, parameters = self._found_in_index(above)
        sql = f"SELECT count(*) FROM ({found}) hit"
        if self._rows.conditions:
            # The candidates' ids are read from an index alone. The plus keeps SQLite from asking
            # the search index for each of them.
            sql += f" WHERE +hit.id IN (SELECT m.id FROM messages m WHERE {self._rows.where})"
        return self._scalar(sql, [*parameters, *self._rows.parameters])

    def _count_newer(self, row_id: int) -> int:
        return self._count_read(row_id, "NOT INDEXED")  # rows are found by id

    def _count_read(self, row_id: int, index: str = "") -> int:
        """Return how many rows above `row_id` match, by reading them."""
        return self._scalar(
            f"SELECT count(*) FROM messages m {index}"
            f" WHERE m.id > ? AND {self._rows.where} AND {self._phrase.condition}",
            [row_id, *self._rows.parameters, *self._phrase.parameters],
        )

    def _found_in_index(self, above: int = 0) -> tuple[str, list[object]]:
        """Return SQL for the indexed ids above `above` that have the phrase, and its parameters."""
        phrase = self._phrase
        match = phrase.match or self._terms.match
        if match is not None:
            sql = "SELECT s.rowid AS id FROM messages_search s"
            where = "s.messages_search MATCH ? AND s.rowid > ?"
            parameters: list[object] = [match, above]
        else:
            sql = "SELECT DISTINCT s.doc AS id FROM search_places s"
            where = "s.term >= ? AND s.term < ? AND s.doc > ?"
            parameters = [*phrase.term_range, above]
        if phrase.index_decides:
            return f"{sql} WHERE {where}", parameters
        row = "s.doc" if match is None else "s.rowid"
        return (
            f"{sql} CROSS JOIN messages m ON m.id = {row} WHERE {where} AND {phrase.condition}",
            parameters + phrase.parameters,
        )

    def _walk(self, query: MessageQuery, budget: int) -> list[int]:
        """Return the ids of a page that is found in the first `budget` candidates."""
        rows = self._rows_of_page(query)
        return self._ids(
            "SELECT m.id FROM (SELECT m.id, m.text, m.folded FROM messages m"
            f" WHERE {rows.where} ORDER BY {self._order.sql} LIMIT ?) m"
            f" WHERE {self._phrase.condition} LIMIT ? OFFSET ?",
            [*rows.parameters, budget, *self._phrase.parameters, query.limit + 1, query.offset],
        )

    def _reaches_beyond(self, query: MessageQuery, budget: int) -> bool:
        """Whether there are more candidates than `budget` from where the page starts."""
        rows = self._rows_of_page(query)
        sql = f"SELECT m.id FROM messages m WHERE {rows.where} ORDER BY {self._order.sql}"
        return bool(self._ids(f"{sql} LIMIT 1 OFFSET ?", [*rows.parameters, budget]))

    def _sorted(self, query: MessageQuery) -> list[int]:
        """Return the ids of a page by sorting all hits."""
        indexed, parameters = self._found_in_index()
        newer = f"SELECT m.id FROM messages m WHERE m.id > ? AND {self._phrase.condition}"
        rows = self._rows_of_page(query)
        return self._ids(
            f"SELECT m.id FROM ({indexed} UNION ALL {newer}) hit"
            " CROSS JOIN messages m ON m.id = hit.id"
            f" WHERE {rows.where} ORDER BY {self._order.sql} LIMIT ? OFFSET ?",
            [
                *parameters,
                self._totals.indexed,
                *self._phrase.parameters,
                *rows.parameters,
                query.limit + 1,
                query.offset,
            ],
        )

    def _rows_of_page(self, query: MessageQuery) -> Conditions:
        position = load_position(self._db, query.cursor)
        return Conditions.matching(query, position, self._order)

    def _ids(self, sql: str, parameters: Sequence[object]) -> list[int]:
        return [row_id for (row_id,) in self._db.execute(sql, parameters)]

    def _scalar(self, sql: str, parameters: Sequence[object]) -> int:
        value: int = self._db.execute(sql, parameters).fetchone()[0]
        return value
