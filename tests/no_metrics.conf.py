"""gunicorn.conf.py on a machine where the folder of the metrics cannot be made."""

from pathlib import Path
from typing import Any

_settings_of_the_service: dict[str, Any] = {"__name__": "gunicorn_conf"}
exec(Path("gunicorn.conf.py").read_text(), _settings_of_the_service)  # noqa: S102
_settings_of_the_service["place_of_folder"] = lambda _: Path("/proc")
globals().update(_settings_of_the_service)
