"""`python -m webhook_api`: start the service.

Settings, port and database are checked before Gunicorn starts: Gunicorn would report a fault in
several lines or a traceback. (It reads WEB_CONCURRENCY itself, before its configuration file.)
"""

import ctypes
import runpy
import sys

from flask.cli import load_dotenv
from flask.helpers import get_load_dotenv

from webhook_api.config import Config, ConfigError, set_web_concurrency
from webhook_api.logs import configure_logs, fail_start
from webhook_api.start import StartError, allow_open_files, check_port, prepare_and_log

_M_MMAP_THRESHOLD = -3  # malloc.h
_M_ARENA_MAX = -8


def main() -> None:
    """Become Gunicorn with the application `wsgi:app`; arguments are passed on to it."""
    try:
        _read_dotenv()
        config = Config.from_env()
        configure_logs(config.log_level)
        if len(sys.argv) == 1:  # an argument may be --bind
            check_port(config)
        prepare_and_log(config)
    except (ConfigError, StartError) as error:
        fail_start(error)
    allow_open_files()
    _return_memory()
    set_web_concurrency(config)
    _become_gunicorn()


def _read_dotenv() -> None:
    """Set what `.env` in this folder says and the environment does not, as `flask` and Compose do.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        if get_load_dotenv():
            load_dotenv(".env", load_defaults=False)
    except OSError as error:
        raise ConfigError(f".env cannot be read: {error.strerror}") from None
    except ValueError:  # wrong bytes, or null bytes
        raise ConfigError(".env is not in UTF-8: save it in this encoding") from None


def _return_memory() -> None:
    """Let glibc keep less of the memory that was freed; workers inherit this.

    With another C library, do nothing. Large pieces are given back at once; otherwise glibc keeps
    hundreds of MB of answers that were sent (mallopt(3), M_MMAP_THRESHOLD). Smaller pieces come
    from 2 heaps instead of 16, since a heap does not shrink.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_MMAP_THRESHOLD, 256 * 1024)
        mallopt(_M_ARENA_MAX, 2)


def _become_gunicorn() -> None:
    """Go on as `python -m gunicorn wsgi:app`, without the time that a second interpreter takes."""
    sys.argv.insert(1, "wsgi:app")
    runpy.run_module("gunicorn", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
