"""`python -m webhook_api`: start the service. `python -m webhook_api COMMAND`: run a command.

The program `flask` runs the same commands, but reads `.env` before any code of ours and fails with
a traceback where it cannot.

Settings, port and database are checked before Gunicorn starts: Gunicorn would report a fault in
several lines or a traceback. (It reads WEB_CONCURRENCY itself, before its configuration file.)
"""

import ctypes
import runpy
import sys
from pathlib import Path
from typing import NoReturn

import click
from flask.cli import FlaskGroup, load_dotenv
from flask.helpers import get_load_dotenv

from webhook_api.config import Config, ConfigError, inherits_listener, set_web_concurrency
from webhook_api.logs import EXIT_CONFIG, configure_logs, fail_start
from webhook_api.start import StartError, allow_open_files, check_port, prepare_and_log

_MAX_DOTENV_BYTES = 1024 * 1024
_M_MMAP_THRESHOLD = -3  # malloc.h
_M_ARENA_MAX = -8


def main() -> None:
    """Run the command that the arguments begin with; without one, serve.

    Options without a command are Gunicorn's; `--help` lists the commands.
    """
    if sys.argv[1:] and (sys.argv[1] == "--help" or not sys.argv[1].startswith("-")):
        _run_command(sys.argv[1:])
    _serve()


def _run_command(arguments: list[str]) -> NoReturn:
    try:
        _read_dotenv()
    except ConfigError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_CONFIG)
    commands = FlaskGroup(load_dotenv=False, add_default_commands=False)
    sys.exit(commands.main(["--app", "wsgi", *arguments], prog_name="python -m webhook_api"))


def _serve() -> None:
    """Become Gunicorn with the application `wsgi:app`."""
    try:
        _read_dotenv()
        config = Config.from_env()
        configure_logs(config.log_level)
        if len(sys.argv) == 1 and not inherits_listener():  # an argument may be --bind
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

    A folder of this name, such as a virtual environment, is not read.

    Raises:
        ConfigError: it cannot be read.
    """
    file = Path(".env")
    if not (get_load_dotenv() and file.is_file()):
        return
    if file.stat().st_size > _MAX_DOTENV_BYTES:
        raise ConfigError(f".env has more than {_MAX_DOTENV_BYTES} bytes")
    try:
        load_dotenv(file, load_defaults=False)
    except OSError as error:
        raise ConfigError(f".env cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(".env is not in UTF-8: save it in this encoding") from None
    except ValueError as error:  # a null byte: UTF-16 without a mark has many
        raise ConfigError(f".env cannot be used: {error}; save it as text in UTF-8") from None


def _return_memory() -> None:
    """Let glibc keep less of the memory that was freed; workers inherit this.

    With another C library, do nothing. Large pieces are given back at once; otherwise glibc keeps
    hundreds of MB of responses that were sent (mallopt(3), M_MMAP_THRESHOLD). Smaller pieces come
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
