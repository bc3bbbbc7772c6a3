"""`python -m webhook_api`: start the service.

Settings, port and database are checked before Gunicorn starts: Gunicorn would report a fault in
several lines or a traceback. (It reads WEB_CONCURRENCY itself, before its configuration file.)
"""

import os
import sys

from flask.cli import load_dotenv
from flask.helpers import get_load_dotenv

from webhook_api.config import Config, ConfigError
from webhook_api.logs import configure_logs, fail_start
from webhook_api.start import StartError, allow_open_files, check_port, open_database


def main() -> None:
    """Become Gunicorn with the application `wsgi:app`; arguments are passed on to it."""
    if get_load_dotenv():
        # `flask` does the same for the commands. Only this folder's, as with Compose.
        load_dotenv(".env", load_defaults=False)
    try:
        config = Config.from_env()
        configure_logs(config.log_level)
        if len(sys.argv) == 1:  # an argument may be --bind
            check_port(config)
        open_database(config)
    except (ConfigError, StartError) as error:
        fail_start(error)
    allow_open_files()
    # Makes glibc give back large pieces of memory at once. Without this it keeps hundreds of MB
    # of replies that were sent (mallopt(3), M_MMAP_THRESHOLD).
    os.putenv("MALLOC_MMAP_THRESHOLD_", str(256 * 1024))
    # Smaller pieces come from 2 heaps instead of 16, since a heap does not shrink.
    os.putenv("MALLOC_ARENA_MAX", "2")
    os.putenv("WEB_CONCURRENCY", str(config.web_concurrency))  # it may have been empty
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "wsgi:app", *sys.argv[1:]])  # noqa: S606


if __name__ == "__main__":
    main()
