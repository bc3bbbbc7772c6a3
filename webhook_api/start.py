"""The checks before the service starts, so that a start with a fault ends at once."""

import errno
import logging
import os
import resource
import socket
import sqlite3
import time
from pathlib import Path

from webhook_api.config import Config
from webhook_api.errors import SchemaError, Unavailable
from webhook_api.store.counting import stored_totals
from webhook_api.store.database import Database

logger = logging.getLogger(__name__)

PORT_TIMEOUT_S = 2.0
_RETRY_S = 0.1
OPEN_FILES = 65_536  # a connection is an open file, and so is the database


class StartError(Exception):
    """The service cannot start; the message names the setting to change."""


def check_port(config: Config, timeout_s: float = PORT_TIMEOUT_S) -> None:
    """Return when the service can listen on its address and port, or raise StartError.

    Workers whose master was killed need a moment to notice it and to free the port. Gunicorn
    itself would try for five seconds, log a line for each, and not name the setting.
    """
    deadline = time.monotonic() + timeout_s
    while _is_taken(config):
        if time.monotonic() > deadline:
            reason = "another program listens there; set PORT to a free one"
            raise StartError(f"PORT is {config.port}: {reason}")
        time.sleep(_RETRY_S)


def _is_taken(config: Config) -> bool:
    family = socket.AF_INET6 if ":" in config.bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As Gunicorn does: connections of a service that has just ended do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.bind, config.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            setting = "PORT" if error.errno == errno.EACCES else "BIND"
            value = config.port if setting == "PORT" else config.bind
            raise StartError(f"{setting} is {value}: {error.strerror}") from None
    return False


def allow_open_files() -> None:
    """Allow this process and its children OPEN_FILES open files, or as many as the system allows.

    Not with Compose's `ulimits`: if Docker itself may open fewer, no container starts.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def prepare_database(database: Database) -> None:
    """Create the database of DATABASE_URL, or bring its schema up to date; or raise StartError.

    That of a standby is left as it is, also where there is none yet.
    """
    if database.is_standby:
        return
    try:
        database.prepare(create=True)
    except (sqlite3.Error, SchemaError, OSError, Unavailable) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StartError(
            f"DATABASE_URL leads to {database.path}: {reason}{_advice(database.path)}"
        ) from None


def prepare_if_possible(database: Database) -> None:
    """Bring the schema up to date in a worker, which may have newer code after a reload.

    If the disk is full, the volume is missing, or the file is of a newer version, this logs it and
    returns: the worker serves probes and reads, and takes deliveries as soon as it can. If it
    ended instead, Gunicorn would end the service, also when a single worker is replaced.
    """
    if database.is_standby:
        return
    try:
        database.prepare()
    except (sqlite3.Error, SchemaError, OSError, Unavailable) as error:
        logger.error("database is not ready: %s", error)


def prepare_and_log(config: Config) -> None:
    """Do what `prepare_database` does, and log which file it is and how many messages it has.

    Logs as well what an operator should know of the settings.
    """
    if config.database_driver:
        logger.warning(
            "DATABASE_URL names the driver %s, which is ignored: the service uses Python's sqlite3",
            config.database_driver,
        )
    database = Database(config.database_path, is_standby=config.is_standby)
    created = not _is_there(database.path)
    prepare_database(database)
    totals = stored_totals(database)
    database.close()
    missing = "no copy yet" if config.is_standby else "created"
    found = missing if created else f"messages: {totals.messages if totals else '?'}"
    logger.info("database %s (%s), port %d, API at /docs", database.path, found, config.port)
    if not config.read_token:
        logger.warning("READ_TOKEN is not set: whoever reaches the port can read all messages")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # as if the name is too long
        return False


def _advice(path: Path) -> str:
    """Return what to do if only the owner is wrong, as with a folder that Docker mounts."""
    if all(os.access(one, os.W_OK) for one in (path.parent, path) if _is_there(one)):
        return ""
    user = os.getuid()
    command = f"chown -R {user} {path.parent}"
    return f"; the service runs as user {user}: {command} (or the host's folder mounted there)"
