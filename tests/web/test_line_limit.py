"""Floods of wrong signatures: they do not fill the log, and do not hide other lines."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.builders import a_message
from tests.conftest import Logged, Post, Scrape
from webhook_api import close_app
from webhook_api.web.line_limit import LineLimit
from webhook_api.web.request_log import MOST_UNSIGNED_LINES


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_each_second_has_room_for_a_number_of_lines(clock: Clock) -> None:
    limit = LineLimit(2, clock)

    first = [limit.admits() for _ in range(4)]
    clock.now_s += 0.99
    second = [limit.admits() for _ in range(2)]
    clock.now_s += 0.01
    third = [limit.admits() for _ in range(3)]

    assert (first, second) == ([True, True, False, False], [False, False])
    assert third == [True, True, False]


def test_the_number_of_lines_left_out_is_told_once_when_the_second_is_over(clock: Clock) -> None:
    limit = LineLimit(1, clock)
    for _ in range(5):
        limit.admits()

    told = [limit.left_out()]
    clock.now_s += 1
    told += [limit.left_out(), limit.left_out()]

    assert told == [0, 4, 0]


def test_at_the_end_the_number_is_told_at_once(clock: Clock) -> None:
    limit = LineLimit(1, clock)
    for _ in range(5):
        limit.admits()

    assert [limit.left_out(at_end=True), limit.left_out(at_end=True)] == [4, 0]


def test_every_line_is_written_or_counted_at_any_times(clock: Clock) -> None:
    rng = random.Random(1)
    limit, admitted, told = LineLimit(3, clock), 0, 0

    for _ in range(2000):
        clock.now_s += rng.choice([0, 0, 0.01, 0.4, 2])
        told += limit.left_out()
        admitted += limit.admits()

    assert 0 < admitted < 2000
    assert admitted + told + limit.left_out(at_end=True) == 2000


def test_no_line_is_lost_between_threads(clock: Clock) -> None:
    limit = LineLimit(3, clock)

    with ThreadPoolExecutor(8) as pool:
        admitted = sum(pool.map(lambda _: limit.admits(), range(400)))

    assert admitted == 3
    assert limit.left_out(at_end=True) == 397


def test_closing_the_application_tells_the_number_of_lines_left_out(
    app: Flask, client: FlaskClient, logged: Logged
) -> None:
    app.extensions["unsigned_lines"] = LineLimit(1)
    for _ in range(5):
        client.post("/webhook", data=b"x")

    close_app(app)

    assert logged()[-1]["left_out"] == 5 - (len(logged()) - 1)


def test_a_flood_of_wrong_signatures_is_a_few_lines_and_a_count(
    app: Flask,
    client: FlaskClient,
    clock: Clock,
    post_signed: Post,
    logged: Logged,
    scrape: Scrape,
) -> None:
    app.extensions["unsigned_lines"] = LineLimit(MOST_UNSIGNED_LINES, clock)

    statuses = Counter(client.post("/webhook", data=b"x").status_code for _ in range(50))
    post_signed(a_message())
    client.get("/nope")
    flood = logged()
    clock.now_s += 1
    client.get("/health/live")

    assert statuses == {401: 50}
    assert Counter(line["status"] for line in flood) == {401: 10, 200: 1, 404: 1}
    told, live = logged()[len(flood) :]
    assert (told["level"], told["status"], told["left_out"]) == ("ERROR", 401, 40)
    assert "path" not in told  # they are of all
    assert live["path"] == "/health/live"
    series = scrape()
    assert series['webhook_requests_total{result="invalid_signature"}'] == 50
    assert series['http_requests_total{method="POST",path="/webhook",status="401"}'] == 50
