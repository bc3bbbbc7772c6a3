"""The session of a reader who has logged in: a signed cookie that holds no token."""

import hmac
import threading
from collections.abc import Callable
from hashlib import sha256

COOKIE = "inbox_session"
SESSION_S = 7 * 24 * 3600
PAUSE_S = 1.0  # that a wrong token takes
MOST_PAUSES = 16


def begin_session(read_token: str, now: float) -> str:
    """Return the cookie of a session that begins `now`, in seconds since 1970."""
    end = str(int(now) + SESSION_S)
    return f"{end}.{_signature(read_token, end)}"


def is_session(read_token: str, cookie: str, now: float) -> bool:
    """Whether `cookie` is one of ours that has not ended. A change of the token ends them all."""
    end, _, signature = cookie.partition(".")
    expected = _signature(read_token, end).encode()
    if not hmac.compare_digest(expected, signature.encode(errors="replace")):
        return False
    return now < int(end)  # which we have signed, so it is a number


def _signature(read_token: str, end: str) -> str:
    key = hmac.digest(read_token.encode(), b"session of the inbox", "sha256")
    return hmac.new(key, end.encode(errors="replace"), sha256).hexdigest()


class WrongTokens:
    """Makes a wrong token take its time, but not a right one, however many are tried beside it.

    So many wait at once at most: all others are told at once, since each keeps a connection.
    """

    def __init__(self, pause_s: float = PAUSE_S, most: int = MOST_PAUSES) -> None:
        self._pause_s = pause_s
        self._free = threading.BoundedSemaphore(most)

    def pause(self, sleep: Callable[[float], object]) -> None:
        """Call `sleep` with the seconds that a wrong token takes, unless too many wait already."""
        if self._free.acquire(blocking=False):
            try:
                sleep(self._pause_s)
            finally:
                self._free.release()
