"""Webhook API: receives signed messages over HTTP and stores each of them exactly once."""

from flask import Flask

from webhook_api.cli import register_commands
from webhook_api.config import Config
from webhook_api.db import register_database
from webhook_api.intake.group_commit import GroupCommit
from webhook_api.intake.replica import Replica
from webhook_api.logs import configure_logs
from webhook_api.providers import providers_in_use
from webhook_api.reading.conditions import CountCache
from webhook_api.reading.long_reads import LongReads
from webhook_api.routes import register_routes
from webhook_api.services import Services, register_services, services_of
from webhook_api.start import prepare_if_possible
from webhook_api.store.database import Database
from webhook_api.web.access import init_access
from webhook_api.web.application import Application
from webhook_api.web.error_handlers import register_errors
from webhook_api.web.gauges import ConsumerLag, Readiness
from webhook_api.web.hooks import init_hooks
from webhook_api.web.metrics import Metrics, serve_metrics

# Of one process, while the disk stalls. Each is a client that keeps its connection.
MAX_WAITING_DELIVERIES = 1000


def create_app(config: Config | None = None) -> Flask:
    """Build the application. It opens no database and starts no thread, so a fork may follow.

    Raises:
        ConfigError: a setting is missing or wrong.
    """
    config = config or Config.from_env()
    configure_logs(config.log_level)

    app = Application(__name__, static_folder=None, template_folder="web/templates")
    app.url_map.merge_slashes = False  # /health//live is unknown, not a redirect in HTML
    app.config["SETTINGS"] = config
    database = Database(
        config.database_path,
        check_connections=config.check_connections,
        leaves_checkpoints=config.leaves_checkpoints,
        litestream_socket=config.litestream_socket,
        feed_ends_at_replica=config.ack_after_replica,
        is_standby=config.is_standby,
    )
    metrics = Metrics(database)
    replica = None
    if config.ack_after_replica and config.litestream_socket is not None:
        acknowledged = metrics.replica_ack_seconds.observe
        replica = Replica(database, config.litestream_socket, acknowledged)
    commits = GroupCommit(
        database,
        metrics,
        deadline_s=config.commit_deadline_s,
        max_waiting=MAX_WAITING_DELIVERIES,
        replica=replica,
        retention_days=0 if config.is_standby else config.retention_days,
    )
    services = Services(
        database=database,
        commits=commits,
        reads=LongReads(database, metrics.read_refused, deadline_s=config.read_deadline_s),
        counts=CountCache(),
        providers=providers_in_use(config),
        report_waiting=metrics.feed_waiting.set,
    )
    register_services(app, services)

    consumers = ConsumerLag(database, retention_days=config.retention_days)
    serve_metrics(app, metrics, Readiness(database, commits), consumers)
    init_hooks(app, metrics, services.providers)
    init_access(app, config.read_token)
    register_database(app, database)
    register_errors(app)
    register_routes(app, services.providers)
    register_commands(app)
    metrics.preset(app, services.providers)
    return app


def start_app(app: Flask) -> None:
    """Update the database if it needs that, and start the threads; nothing forks after this."""
    services = services_of(app)
    prepare_if_possible(services.database)
    services.commits.start()


def close_app(app: Flask) -> None:
    """Stop the threads and close the files; deliveries that still come are refused."""
    services = services_of(app)
    services.commits.close()
    services.database.close()
