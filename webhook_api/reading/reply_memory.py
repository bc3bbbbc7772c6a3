"""Memory for replies: the server counts the bytes that a client has not taken yet.

A reply of megabytes waits until memory is free before it is made, so that clients that do not
read cannot fill it. Knows no Flask.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from webhook_api.errors import Unavailable

MEMORY_KEY = "webhook_api.reply_memory"  # in a WSGI environ


class ReplyMemory(Protocol):
    """What the server counts for the reply to one request."""

    def wait(self) -> bool:
        """Return True when memory is free; False if that takes too long."""

    def take(self, size: int) -> None:
        """Count `size` bytes that were made for this client. The server gives them back."""


class _Unlimited:
    def wait(self) -> bool:
        return True

    def take(self, size: int) -> None:
        pass


def reply_memory(environ: Mapping[str, Any]) -> ReplyMemory:
    """Return the memory for the reply to a request; without a limit if the server sets none."""
    memory: ReplyMemory = environ.get(MEMORY_KEY, _Unlimited())
    return memory


def wait_for_memory(memory: ReplyMemory) -> None:
    """Wait until memory is free.

    Raises:
        Unavailable: none was free in time.
    """
    if not memory.wait():
        raise Unavailable("too many replies wait for their clients to take them")
