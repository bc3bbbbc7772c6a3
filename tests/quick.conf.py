"""gunicorn.conf.py with shorter times, for tests of what happens when they are over."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

_settings_of_the_service: dict[str, Any] = {}
exec(Path("gunicorn.conf.py").read_text(), _settings_of_the_service)  # noqa: S102
globals().update(_settings_of_the_service)

_SEND_S = float(os.environ.get("SEND_S", "0.6"))
_limits = _settings_of_the_service["_limits"]
# The hooks read it there.
_settings_of_the_service["_limits"] = replace(
    _limits, idle_s=1, receive_s=0.6, send_s=_SEND_S, stop_s=0.3
)
