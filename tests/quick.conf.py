"""gunicorn.conf.py with a short stop, and with those times for clients that a test sets."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

_settings_of_the_service: dict[str, Any] = {}
exec(Path("gunicorn.conf.py").read_text(), _settings_of_the_service)  # noqa: S102
globals().update(_settings_of_the_service)

_set = {
    name: float(os.environ[name.upper()])
    for name in ("idle_s", "receive_s", "send_s")
    if name.upper() in os.environ
}
# There the hooks read it.
_settings_of_the_service["_limits"] = replace(
    _settings_of_the_service["_limits"], stop_s=0.3, **_set
)
