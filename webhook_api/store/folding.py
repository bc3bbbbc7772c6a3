"""Text without differences of case, for the search. It is stored where `lower` of SQLite
would give another text."""

_REMEMBERED_CHARS = 8192

# SQLite's text functions stop at U+0000, so folded text has U+0001 in its place.
NUL, NUL_MARK = "\x00", "\x01"


class _SimpleFolding(dict[int, str]):
    """Unicode's simple case folding (C and S of CaseFolding.txt) for `str.translate`.

    It maps one character to one, so a match in folded text is a match in the text.
    `str.casefold` would turn ß into two characters.
    """

    def __missing__(self, code_point: int) -> str:
        character = chr(code_point)
        folded = character.casefold()
        if len(folded) > 1:
            folded = character.lower()
        if len(folded) > 1:
            folded = character
        # Anybody may send any character in `q`, and all of them would take 200 MB.
        if len(self) < _REMEMBERED_CHARS:
            self[code_point] = folded
        return folded


_FOLDING = _SimpleFolding()


def fold(text: str) -> str:
    """Return `text` without differences of case."""
    return text.lower() if text.isascii() else text.translate(_FOLDING)


def folded_form(text: str | None) -> str | None:
    """Return the value of the column `folded`: None where SQLite's `lower(text)` gives the same.

    SQLite's `lower` changes ASCII only. With this column a search needs no Python function.
    """
    if text is None or (text.isascii() and NUL not in text):
        return None
    folded = fold(text).replace(NUL, NUL_MARK)
    return None if folded == "".join(c.lower() if c.isascii() else c for c in text) else folded
