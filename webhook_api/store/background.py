"""Threads that leave the processor to deliveries and probes."""

import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
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
    work: Sequence[Callable[[C], T]],
    connections: Sequence[C],
    progress: Progress,
) -> list[T]:
    """Do each piece of `work` with its connection, all at the same time; return the results.

    After a failure or Ctrl-C this interrupts the others, and raises when they have ended.
    """
    futures: list[Future[T]] = [Future() for _ in work]
    threads = [
        threading.Thread(target=_do, args=piece)
        for piece in zip(work, connections, futures, strict=True)
    ]
    try:
        for thread in threads:
            thread.start()
        progress(0, len(futures))
        waiting = set(futures)
        while waiting:
            # Not for ever: Ctrl-C does not end a wait if another thread receives the signal.
            ended, waiting = wait(waiting, _POLL_EVERY_S, FIRST_COMPLETED)
            for done, future in enumerate(ended, len(futures) - len(ended) - len(waiting) + 1):
                future.result()
                progress(done, len(futures))
    finally:
        _stop(threads, connections)
    return [future.result() for future in futures]


def _do(work: Callable[[C], T], connection: C, future: Future[T]) -> None:
    lower_priority()
    try:
        future.set_result(work(connection))
    except BaseException as error:  # for the caller
        future.set_exception(error)


def _stop(threads: Sequence[threading.Thread], connections: Sequence[Connection]) -> None:
    while any(thread.is_alive() for thread in threads):
        for connection in connections:
            connection.interrupt()  # again and again: between two statements it has no effect
        for thread in threads:
            if thread.is_alive():
                thread.join(_INTERRUPT_EVERY_S)
