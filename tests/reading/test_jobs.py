"""The queue of long reads: how many at once, with which priority, and when they are left."""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.serving import wait_until
from webhook_api.errors import Unavailable
from webhook_api.reading.jobs import Job, JobQueue, Stopped


def test_a_job_that_does_not_stop_is_not_waited_for() -> None:
    jobs, go = JobQueue(1), threading.Event()

    started = time.monotonic()
    with pytest.raises(Stopped):
        jobs.run(lambda _: go.wait(10), lambda job: job.started_at, leave_after_s=0.1)
    seconds = time.monotonic() - started
    go.set()

    assert seconds < 1
    assert jobs.run(lambda _: 5, lambda _: None, leave_after_s=0.1) == 5


def test_a_queue_runs_two_jobs_at_once_and_its_threads_end() -> None:
    jobs, running, most = JobQueue(2), 0, 0
    mutex = threading.Lock()

    def work(_: Job[int]) -> int:
        nonlocal running, most
        with mutex:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with mutex:
            running -= 1
        return 1

    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(jobs.run, work, lambda _: None, leave_after_s=None) for _ in range(40)]
        assert sum(future.result() for future in done) == 40

    assert most == 2
    wait_until(lambda: all(thread.name != "reader" for thread in threading.enumerate()))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux knows the priority of a thread")
def test_jobs_have_a_lower_priority_than_other_threads() -> None:
    def niceness(_: object) -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    in_queue = JobQueue(1).run(niceness, lambda _: None, leave_after_s=None)

    assert in_queue > niceness(None)


def test_a_job_is_refused_if_no_thread_can_start_and_the_next_is_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = JobQueue(1)

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as system:
        system.setattr(threading.Thread, "start", fail)
        with pytest.raises(Unavailable, match="no more threads"):
            jobs.run(lambda _: 1, lambda _: None, leave_after_s=None)

    assert jobs.run(lambda _: 2, lambda _: None, leave_after_s=None) == 2
