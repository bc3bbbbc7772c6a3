"""gunicorn.conf.py with less patience, for tests of what happens when it is over."""

from dataclasses import replace
from pathlib import Path

from webhook_api.server import Limits, PatientWorker

exec(Path("gunicorn.conf.py").read_text())  # noqa: S102

keepalive = 1
worker_class = PatientWorker.limited(
    replace(Limits(), receive_s=0.6, send_s=0.6, linger_s=0.5, stop_idle_s=0.3)
)
