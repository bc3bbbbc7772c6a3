"""Substring search in any case and script: how text is folded, indexed and compared."""

import sqlite3

_INDEXED_CHARS = 3  # the index holds runs of three characters
_MAX_PHRASE_CHARS = 32  # longer phrases find candidates by their start, which are then compared

_REMEMBERED_CHARS = 8192

# SQLite's text functions stop at U+0000, so folded text has U+0001 in its place. A phrase with
# either is compared with the text itself.
_NUL, NUL_MARK = "\x00", "\x01"

# To the index these are all U+FFFD (READ_UTF8 in SQLite's utf.c); to the comparison they differ.
_ALIKE_IN_INDEX = {0xFFFD: 0xFFFD, 0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD}
_LAST_CHARACTER = "\U0010ffff"


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
    folded = fold(text).replace(_NUL, NUL_MARK)
    return None if folded == "".join(c.lower() if c.isascii() else c for c in text) else folded


class Phrase:
    """What `q` asks for, as SQL conditions on a row `m` of messages and as terms of the index."""

    def __init__(self, q: str) -> None:
        self.text = q
        self._folded = fold(q)
        self._marked = self._folded.replace(_NUL, NUL_MARK)
        self._indexed = self._marked.translate(_ALIKE_IN_INDEX)
        self._has_mark = NUL_MARK in self._marked

    @property
    def condition(self) -> str:
        """True of a row whose text has the phrase; takes `parameters`."""
        has_it = "instr(lower(coalesce(m.folded, m.text)), ?)"
        return f"{has_it} AND has_phrase(m.text, ?)" if self._has_mark else has_it

    @property
    def parameters(self) -> list[object]:
        return [self._marked, self._folded] if self._has_mark else [self._marked]

    @property
    def index_decides(self) -> bool:
        """Whether every row that the index finds has the phrase, without comparing."""
        return (
            not self._has_mark
            and _ALIKE_IN_INDEX.keys().isdisjoint(map(ord, self._folded))
            and len(self._folded) <= _MAX_PHRASE_CHARS
        )

    @property
    def match(self) -> str | None:
        """The phrase, or the start of it, as an FTS5 query; None if it is shorter than a term."""
        return quoted(self._indexed[:_MAX_PHRASE_CHARS]) if not self.is_short else None

    @property
    def is_short(self) -> bool:
        """Whether the phrase is the start of terms, and not made of them."""
        return len(self._indexed) < _INDEXED_CHARS

    @property
    def term_range(self) -> list[str]:
        """The first term that starts with a short phrase, and a bound above the last."""
        return [self._indexed, self._indexed + _INDEXED_CHARS * _LAST_CHARACTER]

    @property
    def character(self) -> str | None:
        """The phrase as a key of the table characters, if it is one."""
        return self._folded if len(self._folded) == 1 and not self._has_mark else None

    def prepare(self, db: sqlite3.Connection) -> None:
        """Give `db` the function that `condition` may use."""
        if self._has_mark:
            db.create_function("has_phrase", 2, _has_phrase, deterministic=True)


def quoted(text: str) -> str:
    """Return an FTS5 query for `text` itself, without any operator."""
    return '"' + text.replace('"', '""') + '"'


def _has_phrase(text: str | None, folded: str) -> bool:
    return text is not None and folded in fold(text)
