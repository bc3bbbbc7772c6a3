"""`python -m webhook_api`: start the service.

Gunicorn reads WEB_CONCURRENCY by itself, before its configuration file, and answers one that is
no number with a traceback. So the settings are checked before it is started.
"""

import os
import sys

from webhook_api.config import Config, ConfigError
from webhook_api.logs import fail_start


def main() -> None:
    """Become Gunicorn, serving `wsgi:app` as gunicorn.conf.py says; arguments are its own."""
    try:
        config = Config.from_env()
    except ConfigError as error:
        fail_start(error)
    os.putenv("WEB_CONCURRENCY", str(config.web_concurrency))  # it may have been set to nothing
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "wsgi:app", *sys.argv[1:]])  # noqa: S606


if __name__ == "__main__":
    main()
