"""Memory for replies: the server counts the bytes that a client has not taken yet.

A reply of megabytes waits for room before it is made, so that clients that do not read cannot
fill the memory. Knows no Flask.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from webhook_api.errors import Unavailable

ROOM_KEY = "webhook_api.room"  # in a WSGI environ


class Room(Protocol):
    """What the server gives to the application for one request."""

    def wait(self) -> bool:
        """Return True when there is room; False if that takes too long."""

    def take(self, size: int) -> None:
        """Count `size` bytes that were made for this client. The server gives them back."""


class _Unlimited:
    def wait(self) -> bool:
        return True

    def take(self, size: int) -> None:
        pass


def room_for(environ: Mapping[str, Any]) -> Room:
    """Return the room of a request; without a limit if the server does not count."""
    room: Room = environ.get(ROOM_KEY, _Unlimited())
    return room


def wait_for_room(room: Room) -> None:
    """Wait until there is room.

    Raises:
        Unavailable: there was none in time.
    """
    if not room.wait():
        raise Unavailable("too many replies wait for their clients to take them")
