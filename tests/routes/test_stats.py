"""GET /stats: counts, senders and times, of all messages or of some."""

import random
from collections import Counter
from datetime import datetime, timedelta
from itertools import product

import pytest

from tests.builders import a_message
from tests.conftest import Api
from webhook_api.store.indexing import index_messages

NOTHING = {
    "total_messages": 0,
    "senders_count": 0,
    "messages_per_sender": [],
    "first_message_ts": None,
    "last_message_ts": None,
}


def test_an_empty_store_has_nulls(api: Api) -> None:
    response = api.client.get("/stats")

    assert response.json == NOTHING
    assert list(response.json) == list(NOTHING)


def test_deliveries_are_counted_once_and_by_sender(api: Api) -> None:
    for name, sender in [("a", "+2"), ("b", "+1"), ("b", "+9"), ("c", "+2"), ("a", "+2")]:
        api.post(
            a_message(message_id=name, sender=sender, ts=f"2025-01-1{ord(name) - 96}T10:00:00Z")
        )

    assert api.get("/stats") == {
        "total_messages": 3,
        "senders_count": 2,
        "messages_per_sender": [{"from": "+2", "count": 2}, {"from": "+1", "count": 1}],
        "first_message_ts": "2025-01-11T10:00:00Z",
        "last_message_ts": "2025-01-13T10:00:00Z",
    }


@pytest.mark.parametrize("filters", [{}, {"since": "0001-01-01T00:00:00Z"}], ids=["all", "since"])
def test_the_top_ten_are_sorted_by_count_then_number(api: Api, filters: dict[str, str]) -> None:
    counts = {"+10": 3, "+9": 3, "+100": 3, "+5": 4} | {f"+7{n:02}": 1 + n % 2 for n in range(12)}
    api.store(
        *[
            a_message(message_id=f"{sender}/{n}", sender=sender)
            for sender, count in counts.items()
            for n in range(count)
        ]
    )

    stats = api.get("/stats", **filters)

    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    assert stats["messages_per_sender"] == [{"from": s, "count": n} for s, n in ranked[:10]]
    assert [list(entry) for entry in stats["messages_per_sender"]] == [["from", "count"]] * 10
    assert stats["senders_count"] == len(counts) == 16
    assert stats["total_messages"] == sum(counts.values())


def test_windows_of_many_days_are_counted_from_either_side(api: Api) -> None:
    chance, day = random.Random(3), datetime(2025, 1, 1)
    sent = [
        ((day + timedelta(hours=chance.randrange(24 * 60))).isoformat() + "Z", f"+{1 + n % 3}")
        for n in range(900)
    ]
    api.store(
        *[a_message(message_id=str(n), ts=ts, sender=who) for n, (ts, who) in enumerate(sent)]
    )
    index_messages(api.writer, max_rows=800)

    # Both ends in each part of the periods of 12 days, and in the same one.
    for first, days in product(range(0, 60, 3), [1, 5, 13, 25, 60]):
        since, until = ((day + timedelta(days=n)).isoformat() + "Z" for n in (first, first + days))
        wanted = Counter(who for ts, who in sent if since <= ts < until)

        stats = api.get("/stats", since=since, until=until)

        counts = {entry["from"]: entry["count"] for entry in stats["messages_per_sender"]}
        assert counts == wanted, (since, until)
        assert (stats["total_messages"], stats["senders_count"]) == (wanted.total(), len(wanted))
