"""Work in threads that give way to what somebody waits for."""

import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from typing import TypeVar

from webhook_api.store.connections import Connection
from webhook_api.store.copying import Progress

_NICENESS = 10
_INTERRUPT_EVERY_S = 0.05

T = TypeVar("T")


def be_nice() -> None:
    """Let deliveries and probes get the processor before the calling thread."""
    if sys.platform == "linux":
        # On Linux this is of one thread; on other systems, of the whole process.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def at_once(
    work: Sequence[Callable[[Connection], T]],
    connections: Sequence[Connection],
    progress: Progress,
) -> list[T]:
    """Do each piece of `work` with its connection, all at the same time; return the results.

    After a failure or Ctrl-C this interrupts the others, and raises when they have ended.
    """
    running: list[Future[T]] = []
    with ThreadPoolExecutor(len(work), initializer=be_nice) as threads:
        try:
            for one, its in zip(work, connections, strict=True):
                running.append(threads.submit(one, its))
            progress(0, len(running))
            for done, future in enumerate(as_completed(running), 1):
                future.result()
                progress(done, len(running))
        finally:
            _stop(running, connections)
    return [future.result() for future in running]


def _stop(running: Sequence[Future[T]], connections: Sequence[Connection]) -> None:
    while not all(future.done() for future in running):
        for connection in connections:
            connection.interrupt()  # again and again: between two statements it has no effect
        wait(running, _INTERRUPT_EVERY_S)
