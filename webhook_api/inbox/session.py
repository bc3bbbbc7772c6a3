"""The session of a reader who has logged in: a signed cookie that holds no token."""

import hmac
import threading
import time
from collections.abc import Callable
from hashlib import sha256

COOKIE = "inbox_session"
SESSION_S = 7 * 24 * 3600
PAUSE_S = 1.0  # after a wrong token


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


class Pause:
    """Lets nobody try a token for a moment after a wrong one. It holds no thread meanwhile.

    So a process looks at one wrong token a second, whatever number of clients guess.
    """

    def __init__(self, pause_s: float = PAUSE_S, clock: Callable[[], float] = time.monotonic):
        self._pause_s = pause_s
        self._clock = clock
        self._mutex = threading.Lock()  # guards the next one
        self._until = float("-inf")

    def admits(self, is_right: Callable[[], bool]) -> bool | None:
        """Return what `is_right` says; None in a pause, in which it is not asked."""
        with self._mutex:
            if self._clock() < self._until:
                return None
            if is_right():
                return True
            self._until = self._clock() + self._pause_s
            return False
