"""gunicorn.conf.py with faults, each of which is turned on by a variable of the environment."""

import os
import signal
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from webhook_api.store.database import Database

_service: dict[str, Any] = {"__name__": "gunicorn_conf"}
exec(Path("gunicorn.conf.py").read_text(), _service)  # noqa: S102
globals().update(_service)

if "METRICS_IN" in os.environ:  # the folder for the metrics is made there
    _service["place_of_folder"] = lambda _: Path(os.environ["METRICS_IN"])

if "SIGTERM_ONCE" in os.environ:  # the first worker gets one as soon as it is forked
    _once = Path(os.environ["SIGTERM_ONCE"])

    def post_fork(server: Any, worker: Any) -> None:
        if not _once.exists():
            _once.touch()
            os.kill(os.getpid(), signal.SIGTERM)
        _service["post_fork"](server, worker)


if "READS_HANG_WHILE" in os.environ:  # this file exists
    _switch = Path(os.environ["READS_HANG_WHILE"])
    _acquire_reader = Database.acquire_reader

    def _hang(database: Database) -> Any:
        while _switch.exists():
            time.sleep(0.05)
        return _acquire_reader(database)

    patch.object(Database, "acquire_reader", _hang).start()
