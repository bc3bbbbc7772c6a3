"""gunicorn.conf.py, but the system allows no thread while the file NO_THREADS_WHILE is there."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

_settings_of_the_service: dict[str, Any] = {}
exec(Path("gunicorn.conf.py").read_text(), _settings_of_the_service)  # noqa: S102
globals().update(_settings_of_the_service)

_switch = Path(os.environ["NO_THREADS_WHILE"])
_start_thread = ThreadPoolExecutor._adjust_thread_count


def _start_thread_if_allowed(pool: ThreadPoolExecutor) -> None:
    if _switch.exists():
        raise RuntimeError("can't start new thread")
    _start_thread(pool)


patch.object(ThreadPoolExecutor, "_adjust_thread_count", _start_thread_if_allowed).start()
