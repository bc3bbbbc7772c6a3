"""The sessions of readers who have logged in: one empty file for each, until its logout.

A cookie is random, so it tells nothing about the token. The name of its file is a digest of both,
so a new token ends all sessions, and who sees the files cannot log in.
"""

import hmac
import re
import secrets
from pathlib import Path

from webhook_api.store.files import sync_folder

COOKIE = "inbox_session"
SESSION_S = 7 * 24 * 3600
PAUSE_S = 1.0  # until the response to a wrong token, to slow down guessing
MAX_SESSIONS = 1000  # the oldest end before there are more

_FORM = re.compile(r"([0-9]{10})\.[\w-]{43}", re.ASCII)  # when it began, and 256 random bits


class Sessions:
    """The sessions of one service; their files are in `folder`, which is made when needed."""

    def __init__(self, folder: Path, read_token: str) -> None:
        self._folder = folder
        self._read_token = read_token

    def begin(self, now: float) -> str:
        """Return the cookie of a session that begins `now`, in seconds since 1970.

        Raises:
            OSError: its file cannot be made.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        names = sorted(file.name for file in self._folder.iterdir())  # the oldest first
        for at, name in enumerate(names):
            if at <= len(names) - MAX_SESSIONS or name < f"{now - SESSION_S:010.0f}":
                (self._folder / name).unlink(missing_ok=True)
        cookie = f"{now:010.0f}.{secrets.token_urlsafe(32)}"
        self._file(cookie).touch(mode=0o600)
        return cookie

    def is_live(self, cookie: str, now: float) -> bool:
        """Return whether `cookie` is of a session that has not ended."""
        form = _FORM.fullmatch(cookie)
        return form is not None and now < int(form[1]) + SESSION_S and self._file(cookie).exists()

    def end(self, cookie: str) -> None:
        """End the session, on disk, in whatever process it is used.

        Raises:
            OSError: its file cannot be removed.
        """
        if _FORM.fullmatch(cookie) and self._file(cookie).exists():
            self._file(cookie).unlink(missing_ok=True)
            sync_folder(self._folder)

    def _file(self, cookie: str) -> Path:
        digest = hmac.new(cookie.encode(), self._read_token.encode(), "sha256").hexdigest()
        return self._folder / f"{cookie[:10]}-{digest}"
