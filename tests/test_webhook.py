"""POST /webhook: each message is stored exactly once."""

from typing import Any

import pytest

from tests.builders import a_message
from tests.conftest import Api


def test_a_first_delivery_is_stored_with_the_time_and_answered_ok(api: Api) -> None:
    response = api.post(a_message())

    assert (response.status_code, response.json) == (200, {"status": "ok"})
    assert response.content_type == "application/json"
    assert api.rows("SELECT message_id, from_msisdn, to_msisdn, ts, text FROM messages") == [
        ("m1", "+919876543210", "+14155550100", "2025-01-15T10:00:00Z", "Hello")
    ]
    assert api.rows(
        "SELECT created_at GLOB '20[0-9][0-9]-[0-1][0-9]-[0-3][0-9]T[0-2][0-9]:*Z',"
        " abs(julianday(created_at) - julianday('now')) * 86400 < 60 FROM messages"
    ) == [(1, 1)]


@pytest.mark.parametrize(
    ("changed", "conflict"),
    [
        ({}, False), ({"extra": 1}, False), ({"text": "other"}, True), ({"text": None}, True),
        ({"text": ""}, True), ({"sender": "+1"}, True), ({"to": "+1"}, True),
        ({"ts": "2025-01-15T10:00:00.0Z"}, True),
    ],
    ids=str,
)  # fmt: skip
def test_a_second_delivery_is_ok_keeps_the_first_row_and_is_a_conflict_if_it_differs(
    api: Api, changed: dict[str, Any], conflict: bool
) -> None:
    api.post(a_message())
    before = api.rows("SELECT * FROM messages")

    response = api.post(a_message(**changed))

    assert (response.status_code, response.json) == (200, {"status": "ok"})
    assert api.rows("SELECT * FROM messages") == before
    _, line = api.logged()
    assert (line["result"], line["dup"], line.get("conflict", False)) == (
        "duplicate", True, conflict,
    )  # fmt: skip
    assert api.scrape()["webhook_conflicts_total"] == conflict


def test_ids_that_differ_in_case_or_after_a_nul_are_different(api: Api) -> None:
    for message_id in ["a", "A", "a\x00b", "a\x00c", "a ", "1", "01", "é", "e\u0301"]:
        assert api.post(a_message(message_id=message_id)).status_code == 200

    assert api.rows("SELECT count(*) FROM messages") == [(9,)]
