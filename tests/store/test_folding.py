"""The form in which texts are compared, and when it is stored."""

import pytest

from webhook_api.store.folding import fold, folded_form


def test_folding_keeps_the_number_of_characters_and_a_second_folding_changes_nothing() -> None:
    everything = "".join(chr(c) for c in range(0x20000) if not 0xD800 <= c < 0xE000)

    folded = fold(everything)

    assert len(folded) == len(everything)
    assert fold(folded) == folded


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        (None, None), ("", None), ("Plain ASCII", None), ("déjà", None), ("Déjà", None),
        ("DÉJÀ", "déjà"), ("a\x00B", "a\x01b"), ("\x01", None),
    ],
)  # fmt: skip
def test_the_folded_form_is_stored_only_where_it_differs(
    text: str | None, stored: str | None
) -> None:
    assert folded_form(text) == stored
