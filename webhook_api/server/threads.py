"""Threads in which requests run while the greenlets of their clients wait."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from webhook_api.outcome import NotServed
from webhook_api.server.executors import PoolLimits
from webhook_api.store.background import lower_priority
from webhook_api.waiting import new_wait

T = TypeVar("T")


class NotRun(Exception):
    """Work was not done, or takes too long; `reason` says which."""

    def __init__(self, reason: NotServed) -> None:
        super().__init__(reason)
        self.reason = reason


class Threads:
    """The threads of one executor. Work begins in the order of its arrival."""

    def __init__(self, limits: PoolLimits) -> None:
        self._limits = limits
        self._executor = ThreadPoolExecutor(
            limits.threads, initializer=lower_priority if limits.low_priority else None
        )

    def run(self, work: Callable[[], T]) -> T:
        """Do `work` in a thread and return what it returns, or raise what it raises.

        Raises:
            NotRun: no thread could be started or was free in time; or it takes too long, as on a
                disk that hangs, and goes on alone.
        """
        wait = new_wait()
        try:
            future = self._executor.submit(work)
        except RuntimeError:
            raise NotRun(NotServed.NO_THREAD) from None
        future.add_done_callback(lambda _: wait.end())
        if not wait.until_ended(self._limits.wait_s):
            if future.cancel():
                raise NotRun(NotServed.NO_TURN)
            if not wait.until_ended(self._limits.run_s):
                raise NotRun(NotServed.DEADLINE)
        return future.result()

    def close(self) -> None:
        """Begin no more work."""
        self._executor.shutdown(wait=False, cancel_futures=True)
