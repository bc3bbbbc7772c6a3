"""gunicorn.conf.py with shorter times, for tests of what happens when they are over."""

from dataclasses import replace
from pathlib import Path
from typing import Any

_settings_of_the_service: dict[str, Any] = {}
exec(Path("gunicorn.conf.py").read_text(), _settings_of_the_service)  # noqa: S102
globals().update(_settings_of_the_service)

keepalive = 1
_patient = _settings_of_the_service["worker_class"]
worker_class = _patient.limited(
    replace(_patient.limits, receive_s=0.6, send_s=0.6, stop_idle_s=0.3)
)
