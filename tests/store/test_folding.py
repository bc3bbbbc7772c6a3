"""The form in which texts are compared, and when it is stored."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_api.store.folding import fold, folded_form, parts_that_fold_alone

MARKS = "\u0300\u0301\u0307\u030c\u0323\u0328\u0334\u0338\u0345\u3099\u05b7\u0bbe\u11a8"
EVERYTHING = [chr(c) for c in range(0x20000) if not 0xD800 <= c < 0xE000]
TEXTS = st.text(st.sampled_from("aeiIJjİıqkſK\u1100\u1161\uac00\u0bc6\u304b\u03b1Ω" + MARKS))


def test_a_second_folding_changes_nothing() -> None:
    for character in EVERYTHING:
        assert fold(fold(character)) == fold(character)
        changes = fold(character) != character
        for text in (character + mark for mark in MARKS):
            if changes or unicodedata.normalize("NFC", text) != text:  # else each is as alone
                assert fold(fold(text)) == fold(text), ascii(text)


def test_canonical_equivalents_are_folded_alike() -> None:
    for character in EVERYTHING:
        for form in ("NFD", "NFC"):
            assert fold(unicodedata.normalize(form, character)) == fold(character)


@given(TEXTS)
def test_the_parts_of_a_text_can_be_folded_alone(text: str) -> None:
    parts = list(parts_that_fold_alone(text))

    assert "".join(parts) == text
    assert "".join(map(fold, parts)) == fold(text)


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        (None, None), ("", None), ("Plain ASCII", None), ("déjà", None), ("Déjà", None),
        ("DÉJÀ", "déjà"), ("de\u0301ja", "déja"), ("İ", "i"), ("i\u0307", "i"),
        ("a\x00B", "a\x01b"), ("\x01", None),
    ],
)  # fmt: skip
def test_the_folded_form_is_stored_only_where_it_differs(
    text: str | None, stored: str | None
) -> None:
    assert folded_form(text) == stored
