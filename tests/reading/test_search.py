"""Search in any case and script, by index and by reading: both must find the same."""

import sqlite3
from collections.abc import Callable

import pytest

from tests.builders import a_message, some_messages
from tests.conftest import Api
from tests.routes.pages import names
from webhook_api.reading.search import Phrase
from webhook_api.store.folding import fold
from webhook_api.store.indexing import index_messages

Index = Callable[[], object]


@pytest.fixture(params=["in the index", "not yet in the index"])
def index(request: pytest.FixtureRequest, api: Api) -> Index:
    """Return a function that indexes what is stored, or does nothing."""
    return lambda: request.param == "in the index" and index_messages(api.writer, max_rows=10_000)


# Pairs of Unicode's CaseFolding.txt, status C or S, and what they look like in a word.
SAME_BUT_FOR_CASE = [
    ("Invoice 42", "INVOICE"), ("École", "éCOLE"), ("привет, мир", "ПРИВЕТ"),
    ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"), ("οδυσσεύς", "ΟΔΥΣΣΕΎΣ"), ("STRAẞE", "straße"),
    ("ᏣᎳᎩ ꮳꮃꭹ", "ᏣᎳᎩ ᏣᎳᎩ"), ("ᲡᲐᲥᲐᲠᲗᲕᲔᲚᲝ", "საქართველო"), ("𐐔𐐇𐐝𐐀𐐡𐐇𐐓", "𐐼𐐯𐑅𐐨𐑉𐐯𐐻"),
    ("273 K and 1 Å", "k AND 1 å"), ("ſtraſſe", "STRASSE"), ("µm Μm", "μM"),
    ("ǅ Ǆ ǆ", "ǆ ǆ ǆ"), ("ᾈΔΗΣ", "ᾀδης"), ("ԱՐԱՐԱՏ", "արարատ"), ("𞤀𞤁𞤂", "𞤢𞤣𞤤"),
    ("ＦＵＬＬ ｗｉｄｔｈ", "ｆｕｌｌ Ｗ"),
    ("İSTANBUL", "istanbul"), ("izmir", "İZMİR"), ("Cafe\u0301", "CAFÉ"),
    ("Re\u0301sume\u0301", "résumÉ"), ("\u1112\u1161\u11ab\u1100\u1173\u11af", "한글"),
]  # fmt: skip


def test_case_does_not_matter_in_any_script(api: Api, index: Index) -> None:
    texts = [text for text, _ in SAME_BUT_FOR_CASE]
    api.store(*[a_message(message_id=text, text=text) for text in texts])
    index()

    for text, q in SAME_BUT_FOR_CASE:
        # The whole of it, three characters, and the one and two that no index has.
        for phrase in [q, q[:3], q[:2], q[:1], q[-2:], text]:
            found = api.get("/messages", q=phrase)
            assert a_message(message_id=text, text=text) in found["data"], phrase
            assert found["total"] == len(found["data"])
        assert api.get("/messages", q=q)["total"] == 1, q


DIFFERENT = [
    ("naïve", "naive"), ("strasse", "straße"), ("ﬀ", "ff"), ("ılık", "ilik"),
    ("e\u0301cole", "ecole"), ("abc\ufffe", "abc\uffff"),
    ("abd\uffff", "abd\ufffd"), ("abe\ufffd", "e\ufffe"), ("日本語", "日本话"),
]  # fmt: skip


def test_what_differs_in_more_than_case_is_not_found(api: Api, index: Index) -> None:
    api.store(*[a_message(message_id=text, text=text) for text, _ in DIFFERENT])
    index()

    for text, q in DIFFERENT:
        assert api.get("/messages", q=q) == {"data": [], "total": 0, "limit": 50, "offset": 0}, q
        assert api.get("/messages", q=text)["total"] == 1, text


LITERALS = [
    "100% sure", "snake_case", '"quoted"', "a*b", "this AND that", "x OR y", "NOT me", "NEAR(a b)",
    "col:umn", "-minus", "^start", "(paren)", "{brace}", "it's", "back\\slash", "semi;colon",
    "a\tb",
    "line\r\nbreak", "--", "/*", "\x01\x02\x7f", "tail ", " head", "???", "😀😀😀", "a\u200bb",
]  # fmt: skip


def test_every_character_is_literal(api: Api, index: Index) -> None:
    others = [f"{c}.{c}" for c in "abcdefghijklmnopqrstuvwxyz"] + ["100 sure", "snakeXcase", "aXb"]
    api.store(
        *[a_message(message_id=text, text=f"[{text}]") for text in LITERALS],
        *[a_message(message_id=f"other{n}", text=other) for n, other in enumerate(others)],
    )
    index()

    for text in LITERALS:
        found = api.get("/messages", q=text)
        assert names(found) == [text]
        assert found["total"] == 1


def test_a_long_phrase_is_compared_to_its_end(api: Api, index: Index) -> None:
    phrases = {length: "é" + "b" * (length - 2) + "Z" for length in (31, 32, 33, 64, 4096)}
    for length, phrase in phrases.items():
        api.store(
            a_message(message_id=f"hit {length}", text=phrase),
            a_message(message_id=f"almost {length}", text=phrase[:-1] + "y"),
        )
    index()

    for length, phrase in phrases.items():
        found = api.get("/messages", q=phrase.swapcase())
        assert names(found) == [f"hit {length}"]
        assert found["total"] == 1


def test_hits_at_the_far_end_of_many_rows_are_found(api: Api, index: Index) -> None:
    # More misses before the hits than a walk in order takes.
    misses = some_messages(1500, text="nothing to see")
    hits = [
        a_message(message_id=f"z{n:02}", ts="2026-01-01T00:00:00Z", text="A Hit") for n in range(60)
    ]
    for start in range(0, 1500, 500):
        api.store(*misses[start : start + 500])
    api.store(*hits)
    index()

    page = api.get("/messages", q="a hit", limit=20, offset=30)

    assert names(page) == [f"z{n}" for n in range(30, 50)]
    assert page["total"] == 60


@pytest.mark.parametrize("filters", [{}, {"since": "2025-01-15T00:03:00Z"}])
def test_a_short_phrase_that_begins_many_terms_of_the_index_is_found(
    api: Api, index: Index, filters: dict[str, str]
) -> None:
    hits = [
        a_message(message_id=f"z{n:03}", ts="2025-01-15T00:04:00Z", text=f"q{chr(0x4E00 + n)}.")
        for n in range(250)
    ]
    api.store(*some_messages(200, text="nothing"))
    api.store(*hits)
    for n in range(5):
        api.store(*(a_message(message_id=f"later {n} {m}", text="no") for m in range(200)))
    index()

    page = api.get("/messages", q="Q", limit=3, offset=240, **filters)

    assert names(page) == ["z240", "z241", "z242"]
    assert page["total"] == 250


def test_the_index_distinguishes_every_character_that_the_comparison_does() -> None:
    """FTS5 has its own, older Unicode table: characters that differ for us must differ there."""
    db = sqlite3.connect(":memory:")
    db.execute("CREATE VIRTUAL TABLE t USING fts5 (body, tokenize = 'trigram', columnsize = 0)")
    db.execute("CREATE VIRTUAL TABLE v USING fts5vocab (t, 'instance')")
    # All that have case in any Unicode so far, and the ends of every plane.
    candidates = [
        chr(c)
        for c in range(1, 0x20000)
        if not (0x3400 <= c < 0xA000 or 0xAC00 <= c < 0xF900 or 0x12000 <= c < 0x16000)
        and not 0x17000 <= c < 0x1C000
    ]
    candidates += [
        chr(c) for plane in range(17) for c in (plane * 0x10000 + 0xFFFE, plane * 0x10000 + 0xFFFF)
    ]
    # Without those that are two characters when they are composed.
    folded = sorted({fold(c) for c in candidates if len(fold(c)) == 1})
    db.executemany("INSERT INTO t (rowid, body) VALUES (?, ?)", enumerate(f"<{c}>" for c in folded))

    alike: dict[str, set[str]] = {}
    for term, row_id in db.execute("SELECT term, doc FROM v"):
        alike.setdefault(term, set()).add(folded[row_id])
    merged = [characters for characters in alike.values() if len(characters) > 1]
    assert len(alike) + 2 == len(folded)
    assert merged == [{"\ufffd", "\ufffe", "\uffff"}]
    # A short phrase is looked up among the terms as it is.
    assert all(term == f"<{c}>" for term, found in alike.items() if len(found) == 1 for c in found)
    assert not any(Phrase(db, "ab" + c).index_decides for c in merged[0])
    db.close()
