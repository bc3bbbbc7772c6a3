"""Signals that a worker gets after the fork, before it has handlers of its own."""

from queue import Empty, SimpleQueue
from signal import SIGINT, SIGQUIT, SIGTERM


def asked_to_stop(signals: "SimpleQueue[int]") -> bool:
    """Return whether one of `signals` tells a worker to stop.

    Until Gunicorn sets a worker's handlers, those of the master only put a signal in this queue,
    which nobody reads in the worker. It would go on, and the master would wait for it for
    `graceful_timeout`.
    """
    try:
        while signals.get_nowait() not in (SIGTERM, SIGINT, SIGQUIT):
            pass
    except Empty:
        return False
    return True
