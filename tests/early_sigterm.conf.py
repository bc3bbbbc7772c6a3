"""gunicorn.conf.py, but the first worker gets a SIGTERM as soon as it is forked.

The file SIGTERM_ONCE says that it got it.
"""

import os
import signal
from pathlib import Path
from typing import Any

_settings_of_the_service: dict[str, Any] = {}
exec(Path("gunicorn.conf.py").read_text(), _settings_of_the_service)  # noqa: S102
globals().update(_settings_of_the_service)

_once = Path(os.environ["SIGTERM_ONCE"])


def post_fork(server: Any, worker: Any) -> None:
    if not _once.exists():
        _once.touch()
        os.kill(os.getpid(), signal.SIGTERM)
    _settings_of_the_service["post_fork"](server, worker)
