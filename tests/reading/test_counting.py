"""What the reads cost: the plans of SQLite, and the counters that replace counting."""

import re

import pytest
from flask import Flask

from tests.builders import a_message, some_messages
from tests.conftest import Get, Rows, Store
from webhook_api.models import Instant, MessageFilter, Timestamp
from webhook_api.reading import search
from webhook_api.reading.listing import stream_messages
from webhook_api.store.connections import Connection
from webhook_api.store.counting import count_before, seek
from webhook_api.store.indexing import index_messages

SENDER = "+919876543210"
SINCE = "2025-01-15T00:05:00Z"
READS = [
    ("/messages", {}),
    ("/messages", {"offset": 1900}),
    ("/messages", {"offset": 1900, "since": SINCE}),
    ("/messages", {"from_": SENDER}),
    ("/messages", {"from_": SENDER, "offset": 500}),
    ("/messages", {"from_": "+0"}),
    ("/messages", {"since": SINCE}),
    ("/messages", {"from_": SENDER, "since": SINCE}),
    ("/messages", {"q": "rare"}),
    ("/messages", {"q": "common"}),
    ("/messages", {"q": "common", "from_": SENDER, "since": SINCE, "offset": 100}),
    ("/messages", {"q": "a rare phrase that is longer than the index is asked for"}),
    ("/messages", {"q": "absent"}),
    ("/stats", {}),
    ("/stats", {"from_": SENDER}),
    ("/stats", {"since": SINCE}),
    ("/stats", {"until": SINCE}),
    ("/stats", {"since": SINCE, "until": "2025-01-15T00:05:03Z"}),
    ("/stats", {"from_": SENDER, "since": SINCE, "until": "2026-01-01T00:00:00Z"}),
]  # fmt: skip


@pytest.fixture
def many(store: Store, writer: Connection) -> None:
    """2,000 messages of a few senders in the search index, and one not yet in it."""
    payloads = some_messages(2000, text="a common phrase")
    for n, payload in enumerate(payloads):
        payload["from"] = SENDER if n % 2 else f"+{n % 7}"
    payloads[1234]["text"] = "a RARE phrase that is longer than the index is asked for"
    for start in range(0, 2000, 500):
        store(*payloads[start : start + 500])
    index_messages(writer, most=10_000)
    store(a_message(message_id="new"))


@pytest.fixture
def statements(app: Flask) -> list[str]:
    """Every statement that the application's reader runs, with its values."""
    database = app.extensions["database"]
    seen: list[str] = []
    with database.reader() as reader:
        reader.set_trace_callback(seen.append)
    return seen


def plan_of(rows: Rows, statement: str) -> list[str]:
    return [detail for *_, detail in rows(f"EXPLAIN QUERY PLAN {statement}")]


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(("path", "parameters"), READS, ids=str)
def test_no_read_scans_the_messages(
    get: Get, rows: Rows, statements: list[str], path: str, parameters: dict[str, object]
) -> None:
    get(path, **parameters)

    selects = [sql for sql in statements if sql.startswith("SELECT")]
    assert selects
    for sql in selects:
        steps = plan_of(rows, sql)
        if "CO-ROUTINE m" in steps:
            steps.remove("SCAN m")  # of what the subquery hands on, which has a LIMIT
        for step in steps:
            assert not re.match(r"SCAN (m|messages)\b(?!.* USING (COVERING )?INDEX)", step), sql


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("q", ["e", "co"])
def test_a_phrase_too_short_for_the_index_reads_the_rows_but_sorts_none(
    get: Get, rows: Rows, statements: list[str], q: str
) -> None:
    get("/messages", q=q)

    (page,) = [sql for sql in statements if "instr" in sql and "count" not in sql]
    steps = plan_of(rows, page)
    assert any("USING INDEX messages_by_instant" in step for step in steps)
    assert not any("TEMP B-TREE" in step for step in steps)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(("q", "found", "by_index"), [("co", 1000, True), ("o", 1001, False)])
def test_a_short_phrase_of_one_sender_is_searched_where_that_costs_less(
    get: Get,
    statements: list[str],
    monkeypatch: pytest.MonkeyPatch,
    q: str,
    found: int,
    by_index: bool,
) -> None:
    monkeypatch.setattr(search, "_FEW_ROWS", 0)

    page = get("/messages", q=q, from_=SENDER, since="2025-01-01T00:00:00Z")

    assert page["total"] == found
    assert any("AS id FROM messages_search" in sql for sql in statements) == by_index


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    "wanted", [{}, {"from": SENDER}, {"since": SINCE}, {"q": "common"}], ids=str
)
def test_a_stream_reads_in_the_order_of_an_index(
    app: Flask, rows: Rows, statements: list[str], wanted: dict[str, str]
) -> None:
    with app.extensions["database"].reader() as reader:
        for _ in stream_messages(reader, MessageFilter.model_validate(wanted)):
            pass

    for sql in statements:
        steps = plan_of(rows, sql)
        assert all("USING INDEX messages_by_" in step for step in steps)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("path", "parameters"),
    [("/messages", {"offset": 1900}), ("/messages", {"q": "rare"}), ("/stats", {"since": SINCE})],
    ids=str,
)
def test_a_reply_comes_from_one_snapshot(
    get: Get, statements: list[str], path: str, parameters: dict[str, object]
) -> None:
    get(path, **parameters)

    assert (statements[0], statements[-1]) == ("BEGIN", "ROLLBACK")
    assert (statements.count("BEGIN"), statements.count("ROLLBACK")) == (1, 1)


INSTANTS = [
    Timestamp.parse(text).instant
    for text in [
        "0001-01-01T00:00:00Z", "0001-01-01T01:00:00Z", "1969-12-31T23:59:59.999999999Z",
        "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.5Z", "2024-02-29T00:00:00Z",
        "2025-01-15T10:00:00Z", "2025-01-15T10:00:15.5Z", "9999-12-31T23:59:59.999999999Z",
    ]
]  # fmt: skip


@pytest.fixture
def of_all_times(store: Store) -> list[Instant]:
    texts = [
        f"{year}-{month}-15T{time}Z"
        for year in ("0001", "1969", "1970", "2025", "9999")
        for month in ("01", "12")
        for time in ("00:00:00", "10:00:15.9", "10:00:16", "23:59:59.999999999")
    ]
    store(*[a_message(message_id=f"{n}", ts=ts) for n, ts in enumerate(texts)])
    return sorted(Timestamp.parse(text).instant for text in texts)


def test_the_periods_count_what_lies_before_any_instant(
    of_all_times: list[Instant], writer: Connection
) -> None:
    for instant in [*INSTANTS, *of_all_times, *(Instant(s + 1, n) for s, n in of_all_times)]:
        earlier = [stored for stored in of_all_times if stored < instant]

        assert count_before(writer, instant) == len(earlier), instant


def test_a_position_is_found_at_most_a_period_before_it(
    of_all_times: list[Instant], writer: Connection
) -> None:
    for position, instant in enumerate(of_all_times):
        start, skipped = seek(writer, position)

        assert start <= instant
        assert start.seconds > instant.seconds - 16
        assert skipped == len([stored for stored in of_all_times if stored < start])


def test_a_rollback_leaves_the_counters_as_they_were(
    store: Store, writer: Connection, rows: Rows
) -> None:
    store(a_message())
    before = [rows(f"SELECT * FROM {table}") for table in ("totals", "senders", "periods")]

    writer.execute("BEGIN")
    store(*some_messages(5))
    writer.execute("DELETE FROM messages")
    writer.execute("ROLLBACK")

    assert [rows(f"SELECT * FROM {table}") for table in ("totals", "senders", "periods")] == before


def test_the_counters_of_removed_rows_leave_nothing_behind(
    store: Store, writer: Connection, rows: Rows
) -> None:
    store(*some_messages(40), a_message(message_id="x", ts="0001-01-01T00:00:00Z", sender="+1"))
    index_messages(writer, most=10)

    writer.execute("DELETE FROM messages")

    assert rows("SELECT messages, senders, deletions FROM totals") == [(0, 0, 41)]
    assert rows("SELECT * FROM senders") == []
    assert rows("SELECT * FROM periods") == []
    assert rows("SELECT * FROM sender_periods") == []
    assert rows("SELECT * FROM characters WHERE messages <> 0") == []
    assert rows("SELECT count(*) FROM messages_search WHERE messages_search MATCH 'Hello'") == [
        (0,)
    ]


def test_an_id_is_never_used_twice(store: Store, writer: Connection) -> None:
    store(a_message(message_id="a"))
    (first,) = writer.execute("SELECT id FROM messages").fetchone()

    writer.execute("DELETE FROM messages")
    store(a_message(message_id="a"))

    assert writer.execute("SELECT id FROM messages").fetchone() > (first,)


def test_vacuum_keeps_the_index_on_its_rows(store: Store, writer: Connection, get: Get) -> None:
    store(*some_messages(5), a_message(message_id="x", text="needle"))
    index_messages(writer, most=10)
    writer.execute("DELETE FROM messages WHERE message_id < 'm0003'")

    writer.execute("VACUUM")

    found = get("/messages", q="needle")
    assert [message["message_id"] for message in found["data"]] == ["x"]
