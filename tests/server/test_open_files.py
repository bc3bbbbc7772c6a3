"""More connections than a process may open files."""

import os
import resource
import signal
from contextlib import ExitStack
from pathlib import Path

from tests.server.clients import connect
from tests.serving import serving, wait_until


def test_a_worker_without_free_files_or_threads_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=1) as server, ExitStack() as stack:
        (worker,) = server.workers
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (60, 60))
        for _ in range(100):
            stack.enter_context(connect(server))
        live = server.get("/health/live")

        assert live.status == 200
        assert server.workers == [worker]


def test_more_idle_connections_than_files_do_not_stop_deliveries(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=1) as server, ExitStack() as stack:
        # The next worker may open so few.
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (200, 200))
        (first,) = server.workers
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: server.workers not in ([], [first]))
        workers = server.workers
        for _ in range(400):
            stack.enter_context(connect(server))
        statuses = server.deliver_all(map(str, range(30)), threads=4)

        assert statuses == {200: 30}
        assert server.workers == workers
