"""Text without differences of case, which is what is searched; some of it is stored."""

_REMEMBERED_CHARS = 8192

# SQLite's text functions stop at U+0000, so folded text has U+0001 in its place.
NUL, NUL_MARK = "\x00", "\x01"


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
    if text is None or (text.isascii() and NUL not in text):
        return None
    folded = fold(text).replace(NUL, NUL_MARK)
    return None if folded == "".join(c.lower() if c.isascii() else c for c in text) else folded
