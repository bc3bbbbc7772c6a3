"""Gunicorn's settings: its processes and threads, and what happens when these start and end."""

import gc
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from webhook_api import close_app
from webhook_api.config import ConfigError
from webhook_api.inherited_settings import INHERITED
from webhook_api.logs import configure_logs, fail_start
from webhook_api.providers import body_limits
from webhook_api.request_kind import kind_of
from webhook_api.server import Core, JsonLogger, Limits, PatientWorker
from webhook_api.server.early_signals import asked_to_stop
from webhook_api.server.metrics_folder import (
    make_again_if_missing,
    make_folder,
    place_of_folder,
    remove_left_behind,
)
from webhook_api.server.refused_settings import refusal
from webhook_api.shares import Shares
from webhook_api.start import StartError, prepare_database, prepare_if_possible
from webhook_api.store.database import Database

# Read by the master at the start, and once more at each SIGHUP.
try:
    _settings = INHERITED.read()
except ConfigError as error:
    fail_start(error)
configure_logs(_settings.log_level)

_address = f"[{_settings.bind}]" if ":" in _settings.bind else _settings.bind
bind = f"{_address}:{_settings.port}"
_shares = Shares.of(_settings.web_threads)
worker_class = PatientWorker.limited(
    Limits(
        body_bytes=body_limits(_settings),
        # Deliveries and probes never wait for reads, even of pages of megabytes.
        kind_of=kind_of,
        shares=_shares.by_kind,
        reads_at_once=_shares.reads,
    )
)
# By default two processes, for two cores, of 64 threads. In a stall of the disk, 44 deliveries of
# each may wait: 64 less 16 for long reads and 4 in reserve. With 32 threads and 64 busy connections
# some were refused: connections are not spread evenly (tests/benchmarks/writes.py --compare 2x32).
workers = _settings.web_concurrency
threads = _settings.web_threads
loglevel = _settings.log_level.lower()
logger_class = JsonLogger
accesslog = None  # the application writes the lines of requests

worker_connections = 2000  # of each process; fewer if it may not open so many files
keepalive = 5
graceful_timeout = 20
timeout = 30
limit_request_line = 8190  # for a long q; the most that Gunicorn allows
control_socket_disable = True
forwarder_headers = ""  # clients cannot set SCRIPT_NAME or PATH_INFO

# In memory, if the system has such a folder: a heartbeat must not wait for a busy disk.
_shared_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
worker_tmp_dir = _shared_memory


def on_starting(server: Any) -> None:
    """Check everything without which no worker could start."""
    if reason := refusal(server.cfg, threads=_settings.web_threads):
        fail_start(f"Gunicorn's setting {reason}")
    try:
        prepare_database(Database(_settings.database_path))
    except StartError as error:
        fail_start(error)


def when_ready(server: Any) -> None:
    """Make the folder of the metrics, now that the start has succeeded."""
    # Not set in the environment of the image: there every program that imports prometheus_client,
    # such as the tests, would share these files.
    place = place_of_folder(_shared_memory)
    remove_left_behind(place)
    directory = make_folder(place)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    server.log.info("sqlite %s, metrics in %s", sqlite3.sqlite_version, directory)
    # What is there before the first fork stays until the end: no collection has to look at it, so
    # its pages stay shared, and a process ends in a fifth of the time.
    gc.freeze()


def pre_fork(server: Any, worker: Any) -> None:
    """Give the worker the lowest number that no living worker has.

    The names of its metrics files contain this number. So a new worker goes on with the files of
    a dead one: nothing is lost or counted twice, and the number of files does not grow.
    """
    taken = {other.metrics_slot for other in server.WORKERS.values()}
    worker.metrics_slot = min(set(range(len(taken) + 1)) - taken)
    make_again_if_missing(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))


def post_fork(server: Any, worker: Any) -> None:
    """Name the metrics files of this worker, and keep it on a core before it has threads."""
    from prometheus_client import values

    worker.signals_since_fork = server.SIG_QUEUE
    values.ValueClass = values.MultiProcessValue(lambda: worker.metrics_slot)  # type: ignore[no-untyped-call]
    if _settings.cpu_affinity:
        worker.core = Core.of_worker(worker.metrics_slot, workers)


def post_worker_init(worker: Any) -> None:
    """Make the application ready, and let the metrics count what the server refuses.

    The schema is updated here as well: after a reload the worker may have newer code.
    """
    if asked_to_stop(worker.signals_since_fork):
        worker.alive = False
    prepare_if_possible(worker.wsgi.extensions["database"])
    worker.wsgi.extensions["commits"].start()
    worker.when_refused = worker.wsgi.extensions["metrics"].request_refused


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
