"""Which executor runs a request, and the threads of each executor."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar
from urllib.parse import unquote

from webhook_api.config import Config
from webhook_api.errors import Unavailable
from webhook_api.execution import Executor
from webhook_api.outcome import NotServed
from webhook_api.store.background import lower_priority
from webhook_api.waiting import new_wait

# To check a longer body takes the loop too long. Those of providers take longer: to check a form
# of 32 KiB takes 27 ms, and a stranger can send it.
MAX_LOOP_BODY_BYTES = 32 * 1024
MAX_LOOP_PROVIDER_BYTES = 4 * 1024
STREAMS = 12  # that may be sent at once; each keeps a connection to the database
STREAM_WAIT_S = 1.0
_WAIT_S = 1.0  # for a thread, where others may take long
_GRACE_S = 1.0  # after which a thread must have kept its own deadline

T = TypeVar("T")


class PoolLimits(NamedTuple):
    """The threads of one executor, and how many seconds a request may wait for one, and may run."""

    threads: int
    wait_s: float
    run_s: float
    low_priority: bool = False


def path_of_route(path: str) -> str:
    """Return the path of a request as the routes know it: any slashes before it, one after it."""
    return "/" + unquote(path).lstrip("/").removesuffix("/")


def executor_of(method: str, path: str, body_bytes: int) -> Executor:
    """Return where a request begins; a view moves a long read or a stream (`Execution.require`).

    `path` is that of its route.
    """
    if path == "/webhook" or path.startswith("/webhook/"):
        if method != "POST":
            return Executor.PROBE
        limit = MAX_LOOP_BODY_BYTES if path == "/webhook" else MAX_LOOP_PROVIDER_BYTES
        return Executor.LOOP if body_bytes <= limit else Executor.DELIVERY
    if path == "/health/live":
        return Executor.LOOP
    return Executor.PROBE if path in ("/health", "/health/ready", "/metrics") else Executor.PAGE


def pool_limits(config: Config) -> Mapping[Executor, PoolLimits]:
    """Return the threads of every executor but the loop.

    A page may have megabytes: making few at a time needs less memory and is fastest. Of the long
    reads one reads and the other is ready to. The threads start when they are needed.
    """
    commit_s, read_s = config.commit_deadline_s, config.read_deadline_s
    return {
        Executor.DELIVERY: PoolLimits(8, commit_s, commit_s + _GRACE_S),
        Executor.PROBE: PoolLimits(8, _WAIT_S, commit_s + _GRACE_S),
        Executor.PAGE: PoolLimits(config.web_threads, read_s, read_s + _GRACE_S),
        Executor.LONG_READ: PoolLimits(2, _WAIT_S, _WAIT_S + read_s + _GRACE_S, low_priority=True),
        Executor.STREAM: PoolLimits(2, read_s, read_s + _GRACE_S, low_priority=True),
    }


class NotRun(Unavailable):
    """Work was not done, or takes too long; `reason` says which."""


class Threads:
    """The threads of one executor. Work begins in the order of its arrival."""

    def __init__(self, limits: PoolLimits) -> None:
        self._limits = limits
        self._pool = ThreadPoolExecutor(
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
            future = self._pool.submit(work)
        except RuntimeError:
            raise NotRun("no thread could be started", NotServed.NO_THREAD) from None
        future.add_done_callback(lambda _: wait.end())
        if not wait.until_ended(self._limits.wait_s):
            if future.cancel():
                raise NotRun("too many requests are waiting", NotServed.NO_TURN)
            if not wait.until_ended(self._limits.run_s):
                raise NotRun("the request took too long", NotServed.DEADLINE)
        return future.result()

    def close(self) -> None:
        """Begin no more work."""
        self._pool.shutdown(wait=False, cancel_futures=True)
