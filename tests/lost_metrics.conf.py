"""gunicorn.conf.py with the folder of the metrics in a folder `metrics` of TMPDIR."""

import os
from pathlib import Path
from typing import Any

_settings_of_the_service: dict[str, Any] = {"__name__": "gunicorn_conf"}
exec(Path("gunicorn.conf.py").read_text(), _settings_of_the_service)  # noqa: S102
_settings_of_the_service["place_of_folder"] = lambda _: Path(os.environ["TMPDIR"], "metrics")
globals().update(_settings_of_the_service)
