"""Which executor runs a request, and how many threads each executor has."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote

from webhook_api.config import Config
from webhook_api.execution import Executor

# To check a longer body takes the loop too long. Those of providers take longer: to check a form
# of 32 KiB takes 27 ms, and a stranger can send it.
MAX_LOOP_BODY_BYTES = 32 * 1024
MAX_LOOP_PROVIDER_BYTES = 4 * 1024
STREAMS = 12  # that may be sent at once; each keeps a connection to the database
STREAM_WAIT_S = 1.0
_WAIT_S = 1.0  # for a thread, where others may take long
_GRACE_S = 1.0  # after which a thread must have kept its own deadline


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
