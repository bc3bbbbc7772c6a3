"""`python -m webhook_api`: start the service.

What can be wrong is looked at before Gunicorn is started, which would report it in several lines,
or in a traceback: it reads WEB_CONCURRENCY by itself, before its configuration file.
"""

import os
import sys

from flask.cli import load_dotenv
from flask.helpers import get_load_dotenv

from webhook_api.config import Config, ConfigError
from webhook_api.logs import configure_logs, fail_start
from webhook_api.start import StartError, allow_open_files, check_port, open_database


def main() -> None:
    """Become Gunicorn, serving `wsgi:app` as gunicorn.conf.py says; arguments are its own."""
    if get_load_dotenv():
        # As `flask` does for the commands. Only of this folder, as Compose does.
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
    # Large pieces of memory are given back at once: without this glibc keeps hundreds of MB of
    # pages that were sent (mallopt(3), M_MMAP_THRESHOLD).
    os.putenv("MALLOC_MMAP_THRESHOLD_", str(256 * 1024))
    # And smaller ones from two heaps, not from sixteen that are each as large as they ever were.
    os.putenv("MALLOC_ARENA_MAX", "2")
    os.putenv("WEB_CONCURRENCY", str(config.web_concurrency))  # it may have been set to nothing
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "wsgi:app", *sys.argv[1:]])  # noqa: S606


if __name__ == "__main__":
    main()
