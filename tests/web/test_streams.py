"""Streams: each is whole or refused, has one log line at its end, and its own reader."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import samples, some_messages
from tests.conftest import Api
from tests.serving import Load, serving
from tests.store.files import fill

NDJSON = {"Accept": "application/x-ndjson"}


@pytest.fixture
def blocks(api: Api) -> Iterator[bytes]:
    """The blocks of a stream of 1,500 messages; none has been taken yet."""
    payloads = some_messages(1500)
    api.store(*payloads[:750])
    api.store(*payloads[750:])
    response = api.client.get("/messages", headers=NDJSON, buffered=False)
    yield response.response  # type: ignore[misc]
    response.close()


@pytest.mark.parametrize("taken", [0, 1, 3, None])
def test_a_stream_is_logged_when_it_ends_or_its_client_leaves(
    blocks: Iterator[bytes], api: Api, taken: int | None
) -> None:
    for _ in range(1 if taken is None else taken):
        next(blocks)
    before_the_end = api.logged()
    time.sleep(0.05)
    if taken is None:
        b"".join(blocks)
    else:
        blocks.close()  # type: ignore[attr-defined]

    (line,) = api.logged()
    assert before_the_end == []
    ended = "whole" if taken is None else "client_left"
    assert (line["level"], line["status"], line["stream"]) == ("INFO", 200, ended)
    assert line["latency_ms"] > 50
    assert set(line) == {
        "ts", "level", "request_id", "method", "path", "status", "latency_ms", "stream",
    }  # fmt: skip


def test_a_stream_that_breaks_is_an_error_with_its_cause_and_ends_the_connection(
    blocks: Iterator[bytes], api: Api
) -> None:
    next(blocks)
    api.writer.execute("ALTER TABLE messages RENAME TO elsewhere")

    with pytest.raises(ConnectionResetError):
        b"".join(blocks)

    (line,) = api.logged()
    assert (line["level"], line["status"], line["stream"]) == ("ERROR", 200, "failed")
    assert "no such table: messages" in line["traceback"]
    series = api.scrape()
    assert sum(n for name, n in series.items() if name.startswith("http_requests_total")) == sum(
        n for name, n in series.items() if name.startswith("request_latency_ms_count")
    )


def test_a_stream_without_an_answer_yet_is_refused_with_a_status(api: Api) -> None:
    api.writer.execute("ALTER TABLE messages RENAME TO elsewhere")

    response = api.client.get("/messages", headers=NDJSON)

    assert response.status_code == 503
    (line,) = api.logged()
    assert (line["status"], line["level"], "stream" in line) == (503, "ERROR", False)


def test_head_of_a_stream_has_no_length_and_is_logged_at_once(api: Api) -> None:
    response = api.client.head("/messages", headers=NDJSON)

    assert (response.status_code, response.mimetype) == (200, "application/x-ndjson")
    assert "Content-Length" not in response.headers
    assert [(line["method"], line["status"]) for line in api.logged()] == [("HEAD", 200)]


def test_a_stream_and_another_request_have_two_readers(api: Api, blocks: Iterator[bytes]) -> None:
    """The readers are checked: if both used the same one, one of them would fail."""
    taken = [next(blocks)]
    failed = []

    def read() -> None:
        for _ in range(100):
            if api.client.get("/messages?limit=1").status_code != 200:
                failed.append(1)

    others = threading.Thread(target=read)
    others.start()
    taken += list(blocks)
    others.join()

    assert failed == []
    assert b"".join(taken).count(b"\n") == 1500


def test_workers_survive_many_streams_and_each_is_whole_or_refused(tmp_path: Path) -> None:
    rows = 800
    answers: Counter[tuple[int, bool]] = Counter()
    failures: list[Exception] = []

    def read() -> None:
        for _ in range(2):
            try:
                reply = server.get_stream()
            except (OSError, http.client.HTTPException) as error:
                failures.append(error)
            else:
                whole = reply.status == 200 and reply.body.count(b"\n") >= rows
                answers[reply.status, whole] += 1

    with serving(tmp_path, WEB_CONCURRENCY=2) as server:
        fill(server.database, rows)
        workers = set(server.wait_for_workers(2))
        with Load(server, "beside", threads=2) as load:
            readers = [threading.Thread(target=read) for _ in range(24)]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join()
        alive = set(server.workers)
        log = server.log
        counted = samples(server.get("/metrics").body.decode())

    assert failures == load.failures == []
    assert alive == workers
    # All others are refused because every place or thread of a worker is taken, and counted so.
    refused = sum(value for name, value in counted.items() if "_refused_total" in name)
    assert answers == Counter({(200, True): answers[200, True], (503, False): int(refused)})
    assert answers[200, True] > 5
    assert set(load.statuses) == {200}
    ends = Counter(line["stream"] for line in log if "stream" in line)
    assert ends == {"whole": answers[200, True]}


def test_a_client_that_leaves_is_noticed_while_a_stream_finds_nothing(tmp_path: Path) -> None:
    """Nothing is sent to it, so no failed sending shows that it has left."""
    with serving(tmp_path, WEB_CONCURRENCY=1) as server:
        fill(server.database, 3000)
        for _ in range(20):
            client = http.client.HTTPConnection("127.0.0.1", server.port)
            client.request("GET", "/messages?q=%01", headers=NDJSON)
            assert client.sock
            client.sock.close()
            client.close()
        assert server.deliver(message_id="beside").status == 200
        server.stop()

    statuses = Counter(line["status"] for line in server.log if line.get("path") == "/messages")
    assert statuses.total() == 20
    assert statuses[499] > 0
    assert json.dumps(server.log).count("Traceback") == 0
