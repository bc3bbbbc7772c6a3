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
        thread = threading.get_native_id()
        # Added to that of the process: only root may make it less.
        niceness = os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS
        os.setpriority(os.PRIO_PROCESS, thread, niceness)


def run_in_parallel(
    work: Sequence[Callable[[C], T]], connections: Sequence[C], progress: Progress
) -> list[T]:
    """Do each piece of `work` with its connection, all at the same time; return the results.

    After a failure or Ctrl-C this interrupts the others, and raises when they have ended.
    """
    futures: list[Future[T]] = [Future() for _ in work]
    try:
        for piece in zip(work, connections, futures, strict=True):
            threading.Thread(target=_do, args=piece).start()
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
        # What has not begun never will: its thread may start when its connection is closed.
        begun = [future for future in futures if not future.cancel()]
        # Again and again: between two statements it has no effect.
        while wait(begun, _INTERRUPT_EVERY_S).not_done:
            for connection in connections:
                connection.interrupt()
    return [future.result() for future in futures]


def _do(work: Callable[[C], T], connection: C, future: Future[T]) -> None:
    lower_priority()
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work(connection))
    except BaseException as error:  # for the caller
        future.set_exception(error)
