"""The current request's connection to the database, on `flask.g`."""

from contextlib import AbstractContextManager, nullcontext

from flask import Flask, g, has_request_context, request

from webhook_api.execution import Executor, execution_of
from webhook_api.services import current_services
from webhook_api.store.connections import Connection
from webhook_api.store.database import Database


def get_db() -> Connection:
    """Return the current request's connection, which is read-only and ends with the view.

    A stream, which is made after the view has ended, needs a reader of its own.

    Raises:
        Unavailable: there is no database file.
        sqlite3.Error: it cannot be read.
        RuntimeError: the request runs in the event loop, which must not wait for the disk.
    """
    if "db" not in g:
        if has_request_context() and execution_of(request.environ).executor is Executor.LOOP:
            raise RuntimeError("the event loop must not read the database")
        g.db = current_database().acquire_reader()
    connection: Connection = g.db
    return connection


def reader(*, takes_long: bool) -> AbstractContextManager[Connection]:
    """Return the connection for a read, for a `with` block: `get_db()`, unless it takes long.

    One that takes long, which is one whose cost grows with the data, waits for the others.

    Raises:
        RunElsewhere: it takes long, and the request is not where it may.
        RequestRefused: 503 or 499, see `LongReads.reader`.
        sqlite3.Error: the database cannot be read.
    """
    if not takes_long:
        return nullcontext(get_db())
    execution = execution_of(request.environ)
    execution.require(Executor.LONG_READ)
    return current_services().reads.reader(execution.has_client_left)


def current_database() -> Database:
    """Return the database of the current application."""
    return current_services().database


def register_database(app: Flask, database: Database) -> None:
    """Take each request's connection back at its end."""

    @app.teardown_appcontext
    def release_reader(_error: BaseException | None) -> None:
        reader: Connection | None = g.pop("db", None)
        if reader is not None:
            # After a failure its cache may hold bad pages of the file, even after a repair.
            database.release_reader(reader, reusable="failure" not in g)
