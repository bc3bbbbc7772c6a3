"""The session of a reader who has logged in: a signed cookie that holds no token."""

import hmac
import threading
from collections.abc import Callable
from hashlib import sha256

COOKIE = "inbox_session"
SESSION_S = 7 * 24 * 3600
PAUSE_S = 1.0  # until a wrong token is answered
MOST_PAUSES = 16


def begin_session(read_token: str, now: float) -> str:
    """Return the cookie of a session that begins `now`, in seconds since 1970."""
    end = str(int(now) + SESSION_S)
    return f"{end}.{_signature(read_token, end)}"


def is_session(read_token: str, cookie: str, now: float) -> bool:
    """Return whether `cookie` is of a session that has not ended. A new token ends all sessions."""
    end, _, signature = cookie.partition(".")
    expected = _signature(read_token, end).encode()
    if not hmac.compare_digest(expected, signature.encode(errors="replace")):
        return False
    return now < int(end)  # we have signed it, so it is a number


def _signature(read_token: str, end: str) -> str:
    key = hmac.digest(read_token.encode(), b"session of the inbox", "sha256")
    return hmac.new(key, end.encode(errors="replace"), sha256).hexdigest()


class WrongTokens:
    """Makes the answer to a wrong token wait, to slow down guessing.

    Each answer that waits keeps a connection, so if `most` wait already, others do not wait.
    """

    def __init__(self, pause_s: float = PAUSE_S, most: int = MOST_PAUSES) -> None:
        self._pause_s = pause_s
        self._free = threading.BoundedSemaphore(most)

    def pause(self, sleep: Callable[[float], object]) -> None:
        """Call `sleep` with the seconds to wait, unless too many wait already."""
        if self._free.acquire(blocking=False):
            try:
                sleep(self._pause_s)
            finally:
                self._free.release()
