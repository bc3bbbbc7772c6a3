"""The current request's connection to the database, on `flask.g`."""

from flask import Flask, current_app, g

from webhook_api.store.connections import Connection
from webhook_api.store.database import Database


def get_db() -> Connection:
    """Return the current request's connection, read-only; it is given back when the view has ended.

    A reply that is still made after that, a stream, has to lend a reader of its own.

    Raises:
        Unavailable: there is no database file.
        sqlite3.Error: it cannot be read.
    """
    if "db" not in g:
        g.db = current_database().lend_reader()
    connection: Connection = g.db
    return connection


def current_database() -> Database:
    """Return the database of the current application."""
    database: Database = current_app.extensions["database"]
    return database


def init_db(app: Flask, database: Database) -> None:
    """Make `database` the application's, and end each request's use of it."""
    app.extensions["database"] = database

    @app.teardown_appcontext
    def return_reader(_error: BaseException | None) -> None:
        reader: Connection | None = g.pop("db", None)
        if reader is not None:
            # After a failure its cache may hold what is wrong in the file, and keep it when that
            # is right again.
            database.return_reader(reader, reusable="failure" not in g)
