"""Memory for answers: the server counts the bytes that a client has not taken yet.

An answer of megabytes waits until memory is free before it is made, so that clients that do not
read cannot fill it. Knows no Flask.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from webhook_api.errors import Unavailable

MEMORY_KEY = "webhook_api.answer_memory"  # in a WSGI environ


class AnswerMemory(Protocol):
    """What the server counts for the answer to one request."""

    def wait(self) -> bool:
        """Return True when memory is free; False if that takes too long."""

    def take(self, size: int) -> None:
        """Count `size` bytes that were made for this client. The server gives them back."""


class _Unlimited:
    def wait(self) -> bool:
        return True

    def take(self, size: int) -> None:
        pass


def answer_memory(environ: Mapping[str, Any]) -> AnswerMemory:
    """Return the memory for the answer to a request; without a limit if the server sets none."""
    memory: AnswerMemory = environ.get(MEMORY_KEY, _Unlimited())
    return memory


def wait_for_memory(memory: AnswerMemory) -> None:
    """Wait until memory is free.

    Raises:
        Unavailable: none was free in time.
    """
    if not memory.wait():
        raise Unavailable("too many answers wait for their clients to take them")
