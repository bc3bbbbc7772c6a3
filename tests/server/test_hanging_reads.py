"""A disk that hangs in reads: each request is answered at its deadline, and deliveries go on."""

import threading
import time
from pathlib import Path

from tests.serving import Reply, serving, wait_until

READ_DEADLINE_S = 0.5


def test_reads_that_hang_are_503_in_time_and_deliveries_go_on(tmp_path: Path) -> None:
    switch = tmp_path / "hang"
    options = ["--config", "tests/hanging_reads.conf.py"]
    settings = {"READS_HANG_WHILE": switch, "READ_DEADLINE_S": READ_DEADLINE_S}
    paths = ["/messages", "/messages?q=a", "/stats", "/inbox", "/messages"]
    replies: dict[int, tuple[Reply, float]] = {}
    with serving(tmp_path, options, WEB_CONCURRENCY=1, **settings) as server:
        server.deliver(message_id="before")
        switch.touch()

        def ask(number: int) -> None:
            started = time.monotonic()
            reply = server.get(paths[number])
            replies[number] = reply, time.monotonic() - started

        threads = [threading.Thread(target=ask, args=[number]) for number in range(len(paths))]
        for thread in threads:
            thread.start()
        delivered = [server.deliver(message_id=f"beside-{number}").status for number in range(20)]
        live = server.get("/health/live").status
        for thread in threads:
            thread.join()
        switch.unlink()
        wait_until(lambda: server.get("/messages").status == 200)
        time.sleep(0.2)
        lines = [line for line in server.log if line.get("status") == 503]

    assert {reply.status for reply, _ in replies.values()} == {503}
    assert all(reply.headers["retry-after"] for reply, _ in replies.values())
    assert max(took for _, took in replies.values()) < 20  # they hang until all are answered
    assert (set(delivered), live) == ({200}, 200)
    assert len(lines) == len(paths)  # one for each, though their threads ended later
    assert len({line["request_id"] for line in lines}) == len(paths)
