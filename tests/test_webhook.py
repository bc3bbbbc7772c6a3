"""POST /webhook: each message is stored exactly once."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.builders import a_message, encode, signed
from tests.conftest import Logged, Post, Rows, Scrape


def test_a_first_delivery_is_stored_and_answered_ok(post_signed: Post, rows: Rows) -> None:
    response = post_signed(a_message())

    assert (response.status_code, response.json) == (200, {"status": "ok"})
    assert response.content_type == "application/json"
    assert rows("SELECT message_id, from_msisdn, to_msisdn, ts, text FROM messages") == [
        ("m1", "+919876543210", "+14155550100", "2025-01-15T10:00:00Z", "Hello")
    ]


def test_the_server_time_of_storing_is_kept(post_signed: Post, rows: Rows) -> None:
    post_signed(a_message())

    ((matches,),) = rows(
        "SELECT created_at GLOB '20[0-9][0-9]-[0-1][0-9]-[0-3][0-9]T[0-2][0-9]:*Z'"
        " AND abs(julianday(created_at) - julianday('now')) * 86400 < 60 FROM messages"
    )
    assert matches


def test_a_second_delivery_is_answered_ok_and_keeps_the_first_row(
    post_signed: Post, rows: Rows
) -> None:
    post_signed(a_message(text="first"))

    response = post_signed(a_message(text="second"))

    assert (response.status_code, response.json) == (200, {"status": "ok"})
    assert rows("SELECT text FROM messages") == [("first",)]


@pytest.mark.parametrize(
    ("changed", "conflict"),
    [
        ({}, False),
        ({"extra": 1}, False),
        ({"text": "other"}, True),
        ({"text": None}, True),
        ({"text": ""}, True),
        ({"sender": "+1"}, True),
        ({"to": "+1"}, True),
        ({"ts": "2025-01-15T10:00:00.0Z"}, True),
    ],
    ids=str,
)
def test_a_duplicate_is_a_conflict_when_its_content_differs(
    post_signed: Post, logged: Logged, scrape: Scrape, changed: dict[str, Any], conflict: bool
) -> None:
    post_signed(a_message())

    post_signed(a_message(**changed))

    _, line = logged()
    assert (line["result"], line["dup"], line.get("conflict", False)) == (
        "duplicate", True, conflict,
    )  # fmt: skip
    assert scrape()["webhook_conflicts_total"] == conflict


def test_fifty_deliveries_of_one_id_at_once_store_one_row(
    app: Flask, rows: Rows, logged: Logged
) -> None:
    together = threading.Barrier(50)
    body = encode(a_message())

    def deliver(_: int) -> TestResponse:
        together.wait()
        return app.test_client().post("/webhook", data=body, headers=signed(body))

    with ThreadPoolExecutor(50) as threads:
        answers = Counter(answer.status_code for answer in threads.map(deliver, range(50)))

    # More than may wait at once are told to come again, and each of these is stored or repeats.
    told_again = 0
    while answers[503]:
        told_again += 1
        answers[503] -= 1
        answers[
            app.test_client().post("/webhook", data=body, headers=signed(body)).status_code
        ] += 1
    assert answers == Counter({200: 50})
    assert rows("SELECT count(*) FROM messages") == [(1,)]
    results = Counter(line["result"] for line in logged())
    assert results == Counter({"created": 1, "duplicate": 49, "unavailable": told_again})


def test_ids_that_differ_in_case_or_after_a_nul_are_different(
    post_signed: Post, rows: Rows
) -> None:
    for message_id in ["a", "A", "a\x00b", "a\x00c", "a ", "1", "01", "é", "e\u0301"]:
        assert post_signed(a_message(message_id=message_id)).status_code == 200

    assert rows("SELECT count(*) FROM messages") == [(9,)]
