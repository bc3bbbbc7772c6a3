"""Room for answers: what is made for a client is counted by the server, until the client took it.

An answer of megabytes waits for room before it is made, so that clients that do not read cannot
fill the memory. Knows no Flask.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from webhook_api.errors import Unavailable

ROOM_KEY = "webhook_api.room"  # in a WSGI environ


class Room(Protocol):
    """What a server offers to the application, for the length of one request."""

    def wait(self) -> bool:
        """Return when less is held for clients than may be; False if that takes too long."""

    def take(self, size: int) -> None:
        """Count `size` bytes that were made for this client. They need not be given back."""


class _Endless:
    def wait(self) -> bool:
        return True

    def take(self, size: int) -> None:
        pass


def room_for(environ: Mapping[str, Any]) -> Room:
    """Return the room of a request; where the server does not count, there is always enough."""
    room: Room = environ.get(ROOM_KEY, _Endless())
    return room


def wait_for_room(room: Room) -> None:
    """Return when there is some.

    Raises:
        Unavailable: there was none in time.
    """
    if not room.wait():
        raise Unavailable("clients have not taken the answers that were made for them")
