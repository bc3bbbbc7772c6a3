"""More requests than threads, seen from outside."""

import os
import signal
import threading
import time
from itertools import count
from pathlib import Path
from statistics import median

from tests.server.clients import fill, not_served
from tests.serving import Reply, in_threads, serving, wait_until

NO_THREADS = ["--config", "tests/no_threads.conf.py"]


def test_looping_searches_stop_no_delivery_and_no_probe(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=1, WEB_THREADS=16) as server:
        fill(server.database, messages=1500)
        began, numbers = time.monotonic(), count()
        searches: list[Reply] = []
        pages: list[Reply] = []
        probes: list[float] = []
        deliveries: list[int] = []

        def goes_on() -> bool:
            """Whether it is early, or one kind of answer has not come yet."""
            of_both = {one.status for one in searches} & {one.status for one in pages}
            return time.monotonic() < began + (1.5 if of_both >= {200, 503} else 15)

        def search() -> None:
            with server.client() as client:
                while goes_on():
                    # Slow, and each another one, whose hits nobody has counted before.
                    phrase = "x" * 32 + str(next(numbers))
                    searches.append(client.request("GET", f"/messages?q={phrase}"))

        def browse() -> None:
            with server.client() as client:
                while goes_on():
                    path = "/inbox?q=" + "y" * 32 + str(next(numbers))
                    pages.append(client.request("GET", path, headers={"Accept": "text/html"}))

        searching = [
            threading.Thread(target=in_threads, args=[number, work])
            for number, work in ((30, search), (10, browse))
        ]
        for one in searching:
            one.start()
        while goes_on():
            started = time.monotonic()
            assert server.get("/health/live", timeout_s=2).status == 200
            probes.append(time.monotonic() - started)
            deliveries.append(server.deliver(message_id=str(started)).status)
        for one in searching:
            one.join()
        counted = not_served(server)

    refused = [reply for reply in searches if reply.status != 200]
    assert set(deliveries) == {200}
    assert median(probes) < 0.1
    assert 0 < len(refused) < len(searches)
    assert counted["no_turn"] > 0
    for reply in refused:
        assert reply.status == 503
        assert int(reply.headers["retry-after"]) > 0
        assert "reads" in reply.json["detail"]
    refused = [page for page in pages if page.status != 200]
    assert 0 < len(refused) < len(pages)
    for page in refused:
        assert int(page.headers["retry-after"]) > 0
        assert page.headers["content-type"].startswith("text/html")
        assert b"reads" in page.body


def test_a_request_that_finds_no_thread_is_503_and_the_worker_lives(tmp_path: Path) -> None:
    no_threads = tmp_path / "no threads"
    settings = {"WEB_CONCURRENCY": 1, "NO_THREADS_WHILE": no_threads}
    with serving(tmp_path, NO_THREADS, **settings) as server:
        (first,) = server.workers
        no_threads.touch()
        os.kill(first, signal.SIGKILL)  # its threads go with it
        wait_until(lambda: server.workers not in ([], [first]))
        (worker,) = server.workers
        paths = ["/health/ready", "/messages", "/messages?q=x"]
        probe, delivery = server.get("/health/live"), server.deliver(message_id="refused")
        refused = [server.get(path) for path in paths]
        no_threads.unlink()
        served = [server.deliver(message_id="stored"), *map(server.get, paths)]

        assert probe.status == 200  # It needs no thread,
        assert delivery.status == 503  # and this one only the thread that writes.
        assert "thread that writes" in delivery.json["detail"]
        assert int(delivery.headers["retry-after"]) > 0
        assert [reply.status for reply in refused] == [503] * 3
        assert {reply.headers["retry-after"] for reply in refused} == {"2"}
        assert [reply.json for reply in refused] == [{"detail": "the server is busy"}] * 3
        assert [reply.status for reply in served] == [200] * 4
        assert server.ids() == {"stored"}
        assert not_served(server)["no_thread"] == 3
        assert server.workers == [worker]
