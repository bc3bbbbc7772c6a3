"""Gunicorn's settings: its processes and threads, and what happens when these start and end."""

import gc
import os
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any

from webhook_api import close_app, start_app
from webhook_api.config import INHERITED, ConfigError
from webhook_api.logs import configure_logs, fail_start
from webhook_api.providers import body_limits
from webhook_api.server.clients import Limits
from webhook_api.server.executors import pool_limits
from webhook_api.server.master import JsonLogger, drop_before_close, refusal
from webhook_api.server.metrics_folder import (
    make_again_if_missing,
    make_folder,
    place_of_folder,
    remove_left_behind,
)
from webhook_api.server.worker import LoopWorker, asked_to_stop
from webhook_api.services import services_of
from webhook_api.start import StartError, prepare_database
from webhook_api.store.database import Database

# Read by the master at the start, and once more at each SIGHUP.
try:
    _settings = INHERITED.read()
except ConfigError as error:
    fail_start(error)
configure_logs(_settings.log_level)

_address = f"[{_settings.bind}]" if ":" in _settings.bind else _settings.bind
bind = f"{_address}:{_settings.port}"
worker_class = LoopWorker
workers = _settings.web_concurrency
loglevel = _settings.log_level.lower()
logger_class = JsonLogger
accesslog = None  # the application writes the lines of requests

worker_connections = 2000  # of each process; fewer if it may not open so many files
keepalive = _settings.keepalive_s
graceful_timeout = 20
timeout = 30
limit_request_line = 8190  # for a long q; the most that Gunicorn allows
control_socket_disable = True
http_parser = "python"  # the other one answers 400 where 501 is right, and is not faster
# No header changes what a request means, or refuses it, wherever it comes from.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}

_limits = Limits(
    body_bytes=body_limits(_settings), pools=pool_limits(_settings), idle_s=_settings.keepalive_s
)

# In memory, if the system has such a folder: a heartbeat must not wait for a busy disk.
_shared_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
worker_tmp_dir = _shared_memory


def on_starting(server: Any) -> None:
    """Check everything without which no worker could start."""
    if reason := refusal(server.cfg):
        fail_start(f"Gunicorn's setting {reason}")
    try:
        prepare_database(Database(_settings.database_path, is_standby=_settings.is_standby))
    except StartError as error:
        fail_start(error)


def when_ready(server: Any) -> None:
    """Make the folder of the metrics, now that the start has succeeded; prepare the stop."""
    drop_before_close(server)
    # Not set in the environment of the image: there every program that imports prometheus_client,
    # such as the tests, would share these files.
    try:
        place = place_of_folder(_shared_memory)
        remove_left_behind(place)
        directory = make_folder(place)
    except OSError as error:
        fail_start(f"no folder for the metrics, neither in /dev/shm nor in TMPDIR: {error}")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    server.log.info("sqlite %s, metrics in %s", sqlite3.sqlite_version, directory)
    # What is there before the first fork stays until the end: no collection has to look at it, so
    # its pages stay shared, and a process ends in a fifth of the time.
    gc.freeze()


def pre_exec(server: Any) -> None:
    """Let the master that SIGUSR2 asks for begin as the first one did.

    Gunicorn would run the file of its own module, with a folder of its modules as the first place
    for imports, where `http` is one of them.
    """
    if sys.argv[1:2] == ["wsgi:app"]:
        server.START_CTX["args"] = [sys.executable, "-m", "webhook_api", *sys.argv[2:]]


def pre_fork(server: Any, worker: Any) -> None:
    """Give the worker the lowest number that no living worker has.

    The names of its metrics files contain this number. So a new worker goes on with the files of
    a dead one: nothing is lost or counted twice, and the number of files does not grow.
    """
    taken = {other.metrics_slot for other in server.WORKERS.values()}
    worker.metrics_slot = min(set(range(len(taken) + 1)) - taken)
    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    try:
        make_again_if_missing(folder)
    except OSError as error:  # deliveries matter more
        server.log.error(
            "no folder for the metrics, %s: each process counts alone: %s", folder, error
        )
    worker.has_metrics_folder = folder.is_dir()


def post_fork(server: Any, worker: Any) -> None:
    """Give the worker its limits, and name its metrics files."""
    from prometheus_client import values

    worker.limits = _limits
    worker.signals_since_fork = server.SIG_QUEUE
    if not worker.has_metrics_folder:
        return
    values.ValueClass = values.MultiProcessValue(lambda: worker.metrics_slot)  # type: ignore[no-untyped-call]


def post_worker_init(worker: Any) -> None:
    """Make the application ready.

    The schema is updated here as well: after a reload the worker may have newer code.
    """
    if asked_to_stop(worker.signals_since_fork):
        worker.alive = False
    start_app(worker.wsgi)
    worker.report_waiting = services_of(worker.wsgi).report_waiting


def worker_exit(_server: Any, worker: Any) -> None:
    """Close the application of the worker, if it was loaded."""
    if app := getattr(worker, "wsgi", None):
        close_app(app)


def child_exit(_server: Any, worker: Any) -> None:
    """Remove the gauges of a worker that has ended; its counts stay."""
    from prometheus_flask_exporter.multiprocess import GunicornInternalPrometheusMetrics

    GunicornInternalPrometheusMetrics.mark_process_dead_on_child_exit(worker.metrics_slot)


def on_exit(_server: Any) -> None:
    """Remove the folder of the metrics."""
    if directory := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        shutil.rmtree(Path(directory), ignore_errors=True)
