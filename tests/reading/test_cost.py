"""What the reads cost: the plans of SQLite, on one database that all of these tests only read."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from flask import Flask

from tests.builders import SECRET, a_message, an_app, some_messages
from tests.conftest import Api
from webhook_api import close_app
from webhook_api.config import Config
from webhook_api.models import MessageFilter, parse_message
from webhook_api.reading.listing import stream_messages
from webhook_api.services import services_of
from webhook_api.store.connections import connect
from webhook_api.store.indexing import index_messages
from webhook_api.store.lock import unshared
from webhook_api.store.messages import insert_messages

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
    ("/messages", {"to": "+14155550100"}),
    ("/messages", {"to": "+14155550100", "from_": SENDER, "offset": 500}),
    ("/messages", {"provider": "meta", "since": SINCE, "q": "common"}),
    ("/messages", {"message_id": "m0007"}),
    ("/messages", {"message_id": "m0007", "q": "e", "since": SINCE, "to": "+14155550100"}),
    ("/messages", {"q": "rare"}),
    ("/messages", {"q": "common"}),
    ("/messages", {"q": "common", "from_": SENDER, "since": SINCE, "offset": 100}),
    ("/messages", {"q": "a rare phrase that is longer than the index is asked for"}),
    ("/messages", {"q": "absent"}),
    ("/stats", {}),
    ("/stats", {"from_": SENDER}),
    ("/stats", {"to": "+14155550100"}),
    ("/stats", {"provider": "meta", "from_": SENDER, "since": SINCE}),
    ("/stats", {"since": SINCE}),
    ("/stats", {"until": SINCE}),
    ("/stats", {"since": SINCE, "until": "2025-01-15T00:05:03Z"}),
    ("/stats", {"from_": SENDER, "since": SINCE, "until": "2026-01-01T00:00:00Z"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    path = tmp_path_factory.mktemp("many") / "app.db"
    return Config(
        webhook_secret=SECRET, database_path=path, read_deadline_s=60, check_connections=True
    )


@pytest.fixture(scope="module")
def app(config: Config) -> Iterator[Flask]:
    """With 3,000 messages in the search index, most of one sender, and one not yet in it."""
    payloads = some_messages(3000, text="a common phrase")
    for n, payload in enumerate(payloads):
        payload["from"] = SENDER if n % 4 else f"+{n % 7}"
    payloads[1236]["text"] = "a RARE phrase that is longer than the index is asked for"
    app = an_app(config)
    with closing(unshared(connect(config.database_path, "rw", timeout_s=5))) as writer:
        for start in range(0, 3000, 500):
            messages = [parse_message(each) for each in payloads[start : start + 500]]
            insert_messages(writer, messages)
        index_messages(writer, max_rows=10_000)
        insert_messages(writer, [parse_message(a_message(message_id="new"))])
    yield app
    close_app(app)


@pytest.fixture
def statements(app: Flask) -> list[str]:
    """Every statement that the application's reader runs, with its values."""
    database = services_of(app).database
    seen: list[str] = []
    with database.reader() as reader:
        reader.set_trace_callback(seen.append)
    return seen


def plan_of(rows: Callable[..., Any], statement: str) -> list[str]:
    return [detail for *_, detail in rows(f"EXPLAIN QUERY PLAN {statement}")]


@pytest.mark.parametrize(("path", "parameters"), READS, ids=str)
def test_no_read_scans_the_messages(
    api: Api, statements: list[str], path: str, parameters: dict[str, object]
) -> None:
    api.get(path, **parameters)

    selects = [sql for sql in statements if sql.startswith("SELECT")]
    assert selects
    for sql in selects:
        steps = plan_of(api.rows, sql)
        if "CO-ROUTINE m" in steps:
            steps.remove("SCAN m")  # of what the subquery hands on, which has a LIMIT
        for step in steps:
            assert not re.match(r"SCAN (m|messages)\b(?!.* USING (COVERING )?INDEX)", step), sql


@pytest.mark.parametrize("q", ["e", "co"])
def test_a_phrase_too_short_for_the_index_reads_the_rows_but_sorts_none(
    api: Api, statements: list[str], q: str
) -> None:
    api.get("/messages", q=q)

    (page,) = [sql for sql in statements if "instr" in sql and "count" not in sql]
    steps = plan_of(api.rows, page)
    assert any("USING INDEX messages_by_instant" in step for step in steps)
    assert not any("TEMP B-TREE" in step for step in steps)


@pytest.mark.parametrize(("q", "found", "by_index"), [("co", 2250, True), ("o", 2251, False)])
def test_a_short_phrase_of_one_sender_is_searched_where_that_costs_less(
    api: Api, statements: list[str], q: str, found: int, by_index: bool
) -> None:
    """Of more rows than are always read."""
    page = api.get("/messages", q=q, from_=SENDER, since="2025-01-01T00:00:00Z")

    assert page["total"] == found
    assert any("AS id FROM messages_search" in sql for sql in statements) == by_index


@pytest.mark.parametrize(
    "wanted",
    [{}, {"from": SENDER}, {"since": SINCE}, {"q": "common"}, {"to": "+0"}, {"provider": "meta"}],
    ids=str,
)
def test_a_stream_reads_in_the_order_of_an_index(
    api: Api, statements: list[str], wanted: dict[str, str]
) -> None:
    with services_of(api.app).database.reader() as reader:
        for _ in stream_messages(reader, MessageFilter.model_validate(wanted)):
            pass

    for sql in statements:
        steps = plan_of(api.rows, sql)
        assert all("USING INDEX messages_by_" in step for step in steps)


@pytest.mark.parametrize(
    ("path", "parameters"),
    [("/messages", {"offset": 1900}), ("/messages", {"q": "rare"}), ("/stats", {"since": SINCE})],
    ids=str,
)
def test_a_reply_comes_from_one_snapshot(
    api: Api, statements: list[str], path: str, parameters: dict[str, object]
) -> None:
    api.get(path, **parameters)

    assert (statements[0], statements[-1]) == ("BEGIN", "ROLLBACK")
    assert (statements.count("BEGIN"), statements.count("ROLLBACK")) == (1, 1)
