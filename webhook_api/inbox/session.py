"""The session of a reader who has logged in: a signed cookie that holds no token."""

import hmac
from hashlib import sha256

COOKIE = "inbox_session"
SESSION_S = 7 * 24 * 3600
PAUSE_S = 1.0  # until a wrong token is answered, to slow down guessing


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
