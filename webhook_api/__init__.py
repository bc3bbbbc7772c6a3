"""Webhook API: receives signed messages over HTTP and files each of them exactly once."""

import atexit
import logging
import sqlite3
import sys
from threading import Semaphore

from flask import Flask

from webhook_api.cli import register_commands, runs_a_command
from webhook_api.commit import GroupCommit
from webhook_api.config import Config
from webhook_api.counts import CountCache
from webhook_api.db import Database, init_db
from webhook_api.errors import register_errors
from webhook_api.headers import init_headers
from webhook_api.json_provider import CompactJSON
from webhook_api.logs import configure_logs, init_logs
from webhook_api.metrics import init_metrics
from webhook_api.providers import providers_in_use
from webhook_api.reading import Reading
from webhook_api.routes import register_routes

logger = logging.getLogger(__name__)

# Threads that deliveries may not wait in, so that probes and reads are always answered.
RESERVED_THREADS = 4
PAGES_AT_ONCE = 2


def create_app(config: Config | None = None) -> Flask:
    """Build the application. Nothing is opened that a fork could not survive.

    Raises:
        ConfigError: a setting is missing or wrong.
        SchemaError: the database file is not one that this version can use.
    """
    config = config or Config.from_env()
    serves = not runs_a_command()
    # The stdout of a command is its result, and whether it needs a database is its own matter.
    configure_logs(config.log_level, sys.stdout if serves else sys.stderr)

    app = Flask(__name__, static_folder=None)
    app.url_map.merge_slashes = False  # /health//live is unknown, not a redirect in HTML
    app.json = CompactJSON(app)
    app.config.update(
        WEBHOOK_SECRET=config.webhook_secret,
        MAX_BODY_BYTES=config.max_body_bytes,
        PROVIDERS=providers_in_use(config),
        SETTINGS=config,
    )
    database = Database(config.database_path, check_leases=config.check_leases)
    if serves:
        _prepare(database)

    init_logs(app)
    init_headers(app)
    metrics = init_metrics(app, database)
    init_db(app, database)
    # Threads that reads may wait in whose cost grows with the data, and streams be sent from.
    reading_places = max(1, config.web_threads // 4)
    commits = app.extensions["commits"] = GroupCommit(
        database,
        metrics,
        deadline_s=config.commit_deadline_s,
        max_waiting=max(1, config.web_threads - reading_places - RESERVED_THREADS),
    )
    app.extensions["counts"] = CountCache()
    # A page may have megabytes: few are made at a time, which also takes the least time.
    app.extensions["pages"] = Semaphore(PAGES_AT_ONCE)
    app.extensions["reading"] = Reading(
        database, metrics, places=reading_places, deadline_s=config.read_deadline_s
    )
    register_errors(app)
    register_routes(app)
    register_commands(app)
    metrics.preset(app, app.config["PROVIDERS"])
    atexit.register(commits.close)
    return app


def _prepare(database: Database) -> None:
    try:
        database.prepare()
    except (sqlite3.Error, OSError) as error:
        # A worker that starts again while the disk is full or the volume is away serves probes
        # and reads, and takes deliveries again once it can. Gunicorn's own start is stricter.
        logger.error("database is not ready: %s", error)
