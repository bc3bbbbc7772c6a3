"""The counters that replace counting: exact after whatever was stored or removed."""

import pytest

from tests.builders import a_message, some_messages
from tests.conftest import Api
from tests.routes.pages import names
from webhook_api.store.counting import count_before, seek
from webhook_api.store.indexing import index_messages
from webhook_api.timestamps import Instant, Timestamp

INSTANTS = [
    Timestamp.parse(text).instant
    for text in [
        "0001-01-01T00:00:00Z", "0001-01-01T01:00:00Z", "1969-12-31T23:59:59.999999999Z",
        "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.5Z", "2024-02-29T00:00:00Z",
        "2025-01-15T10:00:00Z", "2025-01-15T10:00:15.5Z", "9999-12-31T23:59:59.999999999Z",
    ]
]  # fmt: skip


@pytest.fixture
def of_all_times(api: Api) -> list[Instant]:
    texts = [
        f"{year}-{month}-15T{time}Z"
        for year in ("0001", "1969", "1970", "2025", "9999")
        for month in ("01", "12")
        for time in ("00:00:00", "10:00:15.9", "10:00:16", "23:59:59.999999999")
    ]
    api.store(*[a_message(message_id=f"{n}", ts=ts) for n, ts in enumerate(texts)])
    return sorted(Timestamp.parse(text).instant for text in texts)


def test_the_periods_count_what_lies_before_any_instant(
    of_all_times: list[Instant], api: Api
) -> None:
    for instant in [*INSTANTS, *of_all_times, *(Instant(s + 1, n) for s, n in of_all_times)]:
        earlier = [stored for stored in of_all_times if stored < instant]

        assert count_before(api.writer, instant) == len(earlier), instant


def test_a_position_is_found_at_most_a_period_before_it(
    of_all_times: list[Instant], api: Api
) -> None:
    for position, instant in enumerate(of_all_times):
        start, skipped = seek(api.writer, position)

        assert start <= instant
        assert start.seconds > instant.seconds - 16
        assert skipped == len([stored for stored in of_all_times if stored < start])


def test_a_rollback_leaves_the_counters_as_they_were(api: Api) -> None:
    api.store(a_message())
    before = [api.rows(f"SELECT * FROM {table}") for table in ("totals", "senders", "periods")]

    api.writer.execute("BEGIN")
    api.store(*some_messages(5))
    api.writer.execute("DELETE FROM messages")
    api.writer.execute("ROLLBACK")

    assert [
        api.rows(f"SELECT * FROM {table}") for table in ("totals", "senders", "periods")
    ] == before


def test_the_counters_of_removed_rows_leave_nothing_behind(api: Api) -> None:
    api.store(*some_messages(40), a_message(message_id="x", ts="0001-01-01T00:00:00Z", sender="+1"))
    index_messages(api.writer, max_rows=10)

    api.writer.execute("DELETE FROM messages")

    assert api.rows("SELECT messages, senders, deletions FROM totals") == [(0, 0, 41)]
    for empty in (
        "senders", "periods", "sender_periods", "characters WHERE messages <> 0",
        "messages_search WHERE messages_search MATCH 'Hello'",
    ):  # fmt: skip
        assert api.rows(f"SELECT * FROM {empty}") == []


def test_an_id_is_never_used_twice(api: Api) -> None:
    api.store(a_message(message_id="a"))
    (first,) = api.writer.execute("SELECT id FROM messages").fetchone()

    api.writer.execute("DELETE FROM messages")
    api.store(a_message(message_id="a"))

    assert api.writer.execute("SELECT id FROM messages").fetchone() > (first,)


def test_vacuum_keeps_the_index_on_its_rows(api: Api) -> None:
    api.store(*some_messages(5), a_message(message_id="x", text="needle"))
    index_messages(api.writer, max_rows=10)
    api.writer.execute("DELETE FROM messages WHERE message_id < 'm0003'")

    api.writer.execute("VACUUM")

    assert names(api.get("/messages", q="needle")) == ["x"]
