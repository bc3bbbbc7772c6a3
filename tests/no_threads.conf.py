"""gunicorn.conf.py, but no thread can start while the file NO_THREADS_WHILE exists."""

import os
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import patch

_settings_of_the_service: dict[str, Any] = {}
exec(Path("gunicorn.conf.py").read_text(), _settings_of_the_service)  # noqa: S102
globals().update(_settings_of_the_service)

_switch = Path(os.environ["NO_THREADS_WHILE"])
_start = Thread.start


def _start_if_allowed(thread: Thread) -> None:
    if _switch.exists():
        raise RuntimeError("can't start new thread")
    _start(thread)


patch.object(Thread, "start", _start_if_allowed).start()
