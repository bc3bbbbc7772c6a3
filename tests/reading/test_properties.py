"""After any changes of the table, every reply equals a simple calculation from the rows."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from flask.testing import FlaskClient
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.builders import SECRET, an_app
from tests.reading.calculated import (
    Message,
    in_order,
    instant,
    matches,
    provider_of,
    simple_fold,
)
from webhook_api import close_app
from webhook_api.config import Config
from webhook_api.models import OWN, InboundMessage, Origin, ProviderMessage, parse_message
from webhook_api.reading import listing, search
from webhook_api.reading.listing import NDJSON
from webhook_api.store.connections import connect
from webhook_api.store.indexing import index_messages
from webhook_api.store.lock import LockedConnection, unshared
from webhook_api.store.messages import insert_messages, remove_messages

IDS = [
    *"abcdefghijklmnopqrstuv",
    "A",
    "é",
    "a\x00b",
    "\U0001f600",
    "%",
    "meta:1",
    "meta:2",
    "twilio:1",
]
SENDERS = ["+1", "+10", "+2"]
RECEIVERS = ["+9", "+91"]
MOMENTS = [
    "0001-01-01T00:00:00Z", "1969-12-31T23:59:59.5Z", "2025-01-15T10:00:00Z",
    "2025-01-15T10:00:00.0Z", "2025-01-15T10:00:00.000000001Z", "2025-01-15T10:00:15.9Z",
    "2025-01-15T10:00:16Z", "2025-01-15T11:10:00Z", "9999-12-31T23:59:59.999999999Z",
    # The edges of hours, days, 256 days and 2^20 seconds.
    "2025-01-15T10:59:59.999999999Z", "2025-01-15T11:00:00Z",
    "1969-12-30T23:59:59.999999999Z", "1969-12-31T00:00:00Z",
    "2025-05-15T23:59:59.999999999Z", "2025-05-16T00:00:00Z",
    "2025-01-21T20:13:51.999999999Z", "2025-01-21T20:13:52Z", "2025-02-02T23:30:08Z",
]  # fmt: skip
PIECES = [
    "日", "本", "語", "ц", "Ц", "\u0301", "\u0e49", "𝒳", "𐐀", "𐐨", "\U0010ffff",
    "a", "A", "b", "and", "AND", "é", "É", "ß", "ẞ", "ss", "s", "ſ", "K", "k", "İ", "i", "σ", "Σ",
    "ς", "%", "_", '"', "*", " ", "\x00", "\x01", "\ufffd", "\ufffe", "\uffff", "😀", "Ა", "ა",
]  # fmt: skip
SHORT_PHRASES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=2).map("".join)

PHRASES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join)

LONG_PHRASES = PHRASES.map(lambda text: (text * 40)[:36])

MESSAGES = st.fixed_dictionaries(
    {
        "message_id": st.sampled_from(IDS),
        "from": st.sampled_from(SENDERS),
        "to": st.sampled_from(RECEIVERS),
        "ts": st.sampled_from(MOMENTS),
        "text": st.none() | st.just("") | PHRASES | LONG_PHRASES,
    }
)

STEPS = st.lists(
    st.lists(MESSAGES, min_size=1, max_size=8)  # a batch to file
    | st.sampled_from(IDS)  # a row to remove
    | st.integers(1, 10),  # so many rows to enter into the search index
    min_size=1,
    max_size=8,
)

Steps = list[list[Message] | str | int]

FILTERS = st.fixed_dictionaries(
    {
        "from": st.none() | st.sampled_from([*SENDERS, "+3"]),
        "to": st.none() | st.none() | st.sampled_from([*RECEIVERS, "+3"]),
        "provider": st.none() | st.none() | st.sampled_from(["webhook", "meta", "nobody"]),
        "message_id": st.none() | st.none() | st.none() | st.sampled_from([*IDS, "", "none"]),
        "since": st.none() | st.sampled_from([*MOMENTS, "2025-01-15T10:00:01Z"]),
        "until": st.none() | st.sampled_from([*MOMENTS, "2025-01-15T10:00:01Z"]),
        "q": st.none() | SHORT_PHRASES | PHRASES | LONG_PHRASES,
    }
)


def parsed(message: Message) -> InboundMessage:
    """Return the message, of a provider if its id says so."""
    if (provider := provider_of(message)) == OWN:
        return parse_message(message)
    return parse_message({**message, "kept": Origin(provider)}, ProviderMessage)


class Service(NamedTuple):
    client: FlaskClient
    writer: LockedConnection

    def get(self, path: str, parameters: dict[str, Any]) -> tuple[Any, str]:
        given = {name: value for name, value in parameters.items() if value is not None}
        response = self.client.get(path, query_string=given or None)
        assert response.status_code == 200, response.text
        link = response.headers.get("Link", "")
        return response.json, link.partition(">")[0].removeprefix("<")

    def run(self, steps: Steps) -> list[Message]:
        """Empty the table, do `steps`, and return the messages that should then be stored."""
        self.writer.execute("DELETE FROM messages")
        self.writer.execute("DELETE FROM tombstones")
        removed: set[str] = set()
        stored: dict[str, Message] = {}
        for step in steps:
            if isinstance(step, str):
                found = self.writer.execute("SELECT id FROM messages WHERE message_id = ?", [step])
                if remove_messages(self.writer, [row_id for (row_id,) in found]):
                    del stored[step]
                    removed.add(step)
            elif isinstance(step, int):
                index_messages(self.writer, max_rows=step)
            else:
                results = insert_messages(self.writer, [parsed(one) for one in step])
                for message, result in zip(step, results, strict=True):
                    if message["message_id"] in removed:
                        assert result == (False, False)
                        continue
                    first = stored.setdefault(message["message_id"], message)
                    assert result == (first is message, first != message)
        return in_order([*stored.values()])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    path = tmp_path_factory.mktemp("counts") / "app.db"
    app = an_app(
        Config(webhook_secret=SECRET, database_path=path, log_level="ERROR", read_deadline_s=60)
    )
    writer = unshared(connect(path, "rw", timeout_s=5))
    writer.execute("PRAGMA synchronous = OFF")
    # What needs a thousand rows is done from a few on, so that both ways are taken.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "_CHUNK_ROWS", 3)
        patch.setattr(listing, "_NEAR_ROWS", 3)
        patch.setattr(search, "_FIRST_WALK", 3)
        patch.setattr(search, "_FEW_ROWS", 2)
        patch.setattr(search, "_MAX_TERMS", 3)
        yield Service(app.test_client(), writer)
    writer.close()
    close_app(app)


ONE = {"message_id": "a", "from": "+1", "to": "+9", "ts": MOMENTS[2], "text": None}


@given(STEPS, FILTERS, st.integers(1, 7), st.integers(0, 20))
@example([[ONE]], {"since": ONE["ts"], "from": None}, 1, 0)
@example([[ONE]], {"since": None, "until": ONE["ts"], "from": None}, 1, 0)
@settings(max_examples=100)
def test_every_page_total_and_stream_equals_a_filter_of_the_rows(
    service: Service, steps: Steps, wanted: dict[str, str | None], limit: int, offset: int
) -> None:
    expected = [message for message in service.run(steps) if matches(message, wanted)]

    page, _ = service.get("/messages", wanted | {"limit": str(limit), "offset": str(offset)})
    visited = []
    reply, following = service.get("/messages", wanted | {"limit": str(limit)})
    while following:
        assert (reply["total"], len(reply["data"])) == (len(expected), limit)
        visited += reply["data"]
        reply, following = service.get(following, {})
    given_ = {name: value for name, value in wanted.items() if value is not None}
    stream = service.client.get("/messages", query_string=given_, headers={"Accept": NDJSON})

    assert page == {
        "data": expected[offset : offset + limit],
        "total": len(expected),
        "limit": limit,
        "offset": offset,
    }
    assert reply["total"] == len(expected)
    assert visited + reply["data"] == expected
    assert [json.loads(line) for line in stream.text.splitlines()] == expected


@given(STEPS, FILTERS)
@example([[ONE]], {"since": ONE["ts"], "from": None})
@example([[ONE]], {"since": None, "until": ONE["ts"], "from": None})
@settings(max_examples=80)
def test_statistics_equal_a_count_of_the_rows(
    service: Service, steps: Steps, wanted: dict[str, str | None]
) -> None:
    wanted = {name: value for name, value in wanted.items() if name not in ("q", "message_id")}
    messages = service.run(steps)
    expected = [message for message in messages if matches(message, wanted)]
    senders = Counter(message["from"] for message in expected)

    stats, _ = service.get("/stats", wanted)

    assert stats == {
        "total_messages": len(expected),
        "senders_count": len(senders),
        "messages_per_sender": [
            {"from": sender, "count": count}
            for sender, count in sorted(senders.items(), key=lambda item: (-item[1], item[0]))
        ],
        "first_message_ts": expected[0]["ts"] if expected else None,
        "last_message_ts": expected[-1]["ts"] if expected else None,
    }


@given(STEPS)
@settings(max_examples=40)
def test_the_counters_equal_count_and_group_by(service: Service, steps: Steps) -> None:
    messages = service.run(steps)
    query = service.writer.execute

    assert query("SELECT messages, senders FROM totals").fetchall() == [
        (len(messages), len({message["from"] for message in messages}))
    ]
    assert sorted(query("SELECT * FROM senders")) == sorted(
        query("SELECT from_msisdn, count(*) FROM messages GROUP BY 1")
    )
    seconds = [int(instant(message["ts"])[0]) for message in messages]
    assert {tuple(period): n for *period, n in query("SELECT * FROM periods")} == Counter(
        (length, second - second % length)
        for second in seconds
        for length in (16, 3600, 86400, 256 * 86400)
    )
    while index_messages(service.writer, max_rows=100):
        pass
    assert sorted(query("SELECT * FROM sender_periods")) == sorted(
        query("SELECT seconds >> 20, from_msisdn, count(*) FROM messages GROUP BY 1, 2")
    )
    characters = Counter(
        character
        for message in messages
        for character in set(simple_fold(message["text"] or "")) - {"\x00", "\x01"}
    )
    assert dict(query("SELECT * FROM characters WHERE messages > 0")) == characters
    query("INSERT INTO messages_search (messages_search, rank) VALUES ('integrity-check', 1)")
