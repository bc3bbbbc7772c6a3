"""Text without differences of case, for the search.

It is stored where SQLite's `lower` would give another text. Canonical equivalents are the same: é
is one character, or e and an accent (Unicode Standard Annex 15). So are i and İ, an i with a dot
above.
"""

import unicodedata
from collections.abc import Iterator

_REMEMBERED_CHARS = 8192

# SQLite's text functions stop at U+0000, so folded text has U+0001 in its place.
NUL, NUL_MARK = "\x00", "\x01"


class _SimpleFolding(dict[int, str]):
    """Unicode's simple case folding (C and S of CaseFolding.txt) for `str.translate`.

    It maps one character to one; `str.casefold` would turn ß into two.
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


_FOLDING = _SimpleFolding({0x130: "i"})
_DOTTED_I = "i\u0307"


def fold(text: str) -> str:
    """Return `text` without differences of case, composed (NFC).

    Composed twice: the small letter of J with a caron is one character, the capital is two.
    """
    if text.isascii():
        return text.lower()
    small = unicodedata.normalize("NFC", text).translate(_FOLDING)
    return unicodedata.normalize("NFC", small.replace(_DOTTED_I, "i"))


def parts_that_fold_alone(text: str) -> Iterator[str]:
    """Yield `text` in the smallest parts of which each can be folded without the others."""
    part = text[:1]
    for character in text[1:]:
        if _joins(part, character):
            part += character
        else:
            yield part
            part = character
    if part:
        yield part


def _joins(part: str, character: str) -> bool:
    """Whether `character` may become one with what is before it."""
    if character < "\u0300":
        return False
    composed = unicodedata.normalize("NFC", part[-2:] + character)
    return bool(unicodedata.combining(character)) or len(composed) <= len(part[-2:])


def folded_form(text: str | None) -> str | None:
    """Return the value of the column `folded`: None where SQLite's `lower(text)` gives the same.

    SQLite's `lower` changes ASCII only. With this column a search needs no Python function.
    """
    if text is None or (text.isascii() and NUL not in text):
        return None
    folded = fold(text).replace(NUL, NUL_MARK)
    return None if folded == "".join(c.lower() if c.isascii() else c for c in text) else folded
