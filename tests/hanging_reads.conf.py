"""gunicorn.conf.py, but every read hangs while the file READS_HANG_WHILE exists."""

import os
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from webhook_api.store.database import Database

_settings_of_the_service: dict[str, Any] = {}
exec(Path("gunicorn.conf.py").read_text(), _settings_of_the_service)  # noqa: S102
globals().update(_settings_of_the_service)

_switch = Path(os.environ["READS_HANG_WHILE"])
_acquire_reader = Database.acquire_reader


def _hang(database: Database) -> Any:
    while _switch.exists():
        time.sleep(0.05)
    return _acquire_reader(database)


patch.object(Database, "acquire_reader", _hang).start()
