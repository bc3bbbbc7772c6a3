"""Threads that leave the processor to deliveries and probes."""

import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from webhook_api.store.connections import Connection
from webhook_api.store.copies import Progress

_NICENESS = 10
_INTERRUPT_EVERY_S = 0.05
_POLL_EVERY_S = 0.2

T = TypeVar("T")
C = TypeVar("C", bound=Connection)


def lower_priority() -> None:
    """Let deliveries and probes get the processor before the calling thread."""
    if sys.platform == "linux":
        # Linux sets it for one thread; other systems would set it for the whole process.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def run_in_parallel(
    work: Sequence[Callable[[C], T]], connections: Sequence[C], progress: Progress
) -> list[T]:
    """Do each piece of `work` with its connection, all at the same time; return the results.

    After a failure or Ctrl-C this interrupts the others, and raises when they have ended.
    """
    futures: list[Future[T]] = []
    with ThreadPoolExecutor(len(work), initializer=lower_priority) as pool:
        try:
            for piece, connection in zip(work, connections, strict=True):
                futures.append(pool.submit(piece, connection))
            waiting, done = set(futures), 0
            progress(done, len(futures))
            while waiting:
                # Not for ever: Ctrl-C does not end a wait if another thread receives the signal.
                ended, waiting = wait(waiting, _POLL_EVERY_S, FIRST_COMPLETED)
                for future in ended:
                    future.result()
                    done += 1
                    progress(done, len(futures))
        finally:
            # Again and again: between two statements it has no effect.
            while wait(futures, _INTERRUPT_EVERY_S).not_done:
                for connection in connections:
                    connection.interrupt()
    return [future.result() for future in futures]
