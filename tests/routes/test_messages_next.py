"""GET /messages: the link to the next page visits each message once."""

import random
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.builders import a_message, some_messages
from tests.conftest import Api
from tests.routes.pages import following, walk


@pytest.mark.parametrize("limit", [1, 3, 10, 11, 100])
def test_next_leads_through_all_pages_and_ends(api: Api, limit: int) -> None:
    api.store(*some_messages(10))

    assert walk(api.client, f"/messages?limit={limit}") == [f"m{n:04}" for n in range(10)]


def test_next_keeps_every_filter_and_drops_the_offset(api: Api) -> None:
    api.store(*some_messages(10, text="50% &+é"), a_message(message_id="other", sender="+1"))
    filters = "from=+919876543210&since=2025-01-15T00:00:02Z&q=%25+%26%2B%C3%89"
    filters += "&to=+14155550100&provider=webhook"

    response = api.client.get(f"/messages?{filters}&limit=2&offset=1")
    query = parse_qs(urlsplit(following(response)).query)

    assert urlsplit(following(response)).path == "/messages"
    assert {name: value for name, (value,) in query.items() if name != "cursor"} == {
        "from": "+919876543210", "since": "2025-01-15T00:00:02Z", "q": "% &+É", "limit": "2",
        "to": "+14155550100", "provider": "webhook",
    }  # fmt: skip
    assert walk(api.client, following(response)) == [f"m{n:04}" for n in range(5, 10)]


@pytest.mark.parametrize(
    "filters",
    [
        "",
        "&q=hello",
        "&q=he",
        "&from=+919876543210",
        "&since=2025-01-15T00:00:00Z",
        "&to=+14155550100",
        "&provider=webhook",
        "&to=+14155550100&q=he",
    ],
)
def test_next_visits_each_row_once_while_others_are_added(api: Api, filters: str) -> None:
    ts = "2025-01-15T10:00:00.{}Z"
    there = [a_message(message_id=f"m{n:02}", ts=ts.format(n // 5 + 1)) for n in range(30)]
    api.store(*there)
    random_ = random.Random(3)
    added = iter(range(100, 10_000))

    def add() -> None:
        for _ in range(3):
            n = next(added)
            api.store(
                a_message(
                    message_id=f"{random_.choice('an')}{n}", ts=ts.format(random_.randint(1, 6))
                )
            )

    visited = walk(api.client, f"/messages?limit=4{filters}", after_each=add)

    assert [name for name in visited if name.startswith("m")] == [f"m{n:02}" for n in range(30)]
    assert len(visited) == len(set(visited))


def test_next_goes_on_when_its_row_was_removed(api: Api) -> None:
    api.store(*some_messages(6))
    response = api.client.get("/messages?limit=3")

    api.writer.execute("DELETE FROM messages WHERE message_id = 'm0002'")

    assert walk(api.client, following(response)) == ["m0003", "m0004", "m0005"]


def test_no_message_of_the_same_instant_is_left_out_when_the_cursors_row_was_removed(
    api: Api,
) -> None:
    api.store(*some_messages(6, ts="2025-01-15T10:00:00Z"))
    response = api.client.get("/messages?limit=3")

    api.writer.execute("DELETE FROM messages WHERE message_id = 'm0002'")

    assert walk(api.client, following(response))[-3:] == ["m0003", "m0004", "m0005"]
