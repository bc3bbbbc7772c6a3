"""The hits of a search are marked as the search finds them."""

import pytest

from tests.builders import a_message
from tests.conftest import Api
from tests.inbox.reading import texts
from webhook_api.inbox.marks import mark_hits
from webhook_api.store.folding import fold


@pytest.mark.parametrize(
    ("text", "q", "hits"),
    [
        ("Die STRASSE", "strasse", ["STRASSE"]),
        ("À L'ÉCOLE", "école", ["ÉCOLE"]),
        ("ПРИВЕТ привет", "Привет", ["ПРИВЕТ", "привет"]),
        ("İstanbul i\u0307", "İ", ["İ", "i\u0307"]),
        (
            "ISTANBUL İSTANBUL I\u0307stanbul",
            "istanbul",
            ["ISTANBUL", "İSTANBUL", "I\u0307stanbul"],
        ),
        ("ẞ and ß", "ß", ["ẞ", "ß"]),
        ("ΣΊΣΥΦΟΣ σίσυφος", "σίσυφος", ["ΣΊΣΥΦΟΣ", "σίσυφος"]),
        ("100%_sure", "%_", ["%_"]),
        ("aaa", "aa", ["aa"]),
        ("a\x00b", "\x00", ["\x00"]),
        ("ﬁn FIN ﬁN", "ﬁn", ["ﬁn", "ﬁN"]),  # a ligature is a character of its own
        ("cafe\u0301 CAFÉ", "é", ["e\u0301", "É"]),
        ("cafe\u0301 CAFÉ tea", "afe\u0301 ", ["afe\u0301 ", "AFÉ "]),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af 한글", "글", ["\u1100\u1173\u11af", "글"]),
        ("o\u0323\u0302 ộ Ộ", "ộ", ["o\u0323\u0302", "ộ", "Ộ"]),
        ("cafe\u0301", "e", []),  # as in é
        ("J\u030c ǰ", "ǰ", ["J\u030c", "ǰ"]),
        ("ΟΔΟΣ οδος", "οδοσ", ["ΟΔΟΣ", "οδος"]),  # a final sigma
        ("K k \u212a", "K", ["K", "k", "\u212a"]),  # the Kelvin sign
        ("nothing", None, []),
    ],
)
def test_the_hits_of_the_search_are_marked(text: str, q: str | None, hits: list[str]) -> None:
    parts = mark_hits(text, q)

    assert "".join(part.text for part in parts) == text
    assert [part.text for part in parts if part.is_hit] == hits
    assert bool(hits) == (q is not None and fold(q) in fold(text))


def test_a_text_of_hits_alone_is_not_marked_to_its_end() -> None:
    parts = mark_hits("ab" * 2048, "a")

    assert "".join(part.text for part in parts) == "ab" * 2048
    assert len(parts) < 500


def test_a_long_text_is_shown_from_before_its_first_hit(api: Api) -> None:
    api.store(a_message(text="a" * 3000 + "\x00 needle " + "b" * 900))

    [found] = texts(api.client.get("/inbox?q=needle").text)
    [whole] = texts(api.client.get("/inbox").text)

    assert found == "… " + "a" * 98 + "\u2400 needle " + "b" * 900
    assert whole == "a" * 3000 + "\u2400 needle " + "b" * 900
    assert "Read all of it" in api.client.get("/inbox").text
