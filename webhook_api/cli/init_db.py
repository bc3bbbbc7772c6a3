"""`init-db`: creates the database file, or updates its schema."""

import click
from flask.cli import with_appcontext

from webhook_api.cli.failures import PlainCommand
from webhook_api.db import current_database


@click.command("init-db", cls=PlainCommand)
@with_appcontext
def create_database() -> None:
    """Create the database file, or update its schema. Removes nothing.

    The service does this when it starts. If the file is lost later, this creates a new one, and
    the running service goes on with it.
    """
    database = current_database()
    database.prepare(create=True)
    click.echo(f"{database.path}: ready")
