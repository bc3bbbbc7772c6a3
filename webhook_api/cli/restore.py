"""`restore`: puts a backup in the place of the database."""

from pathlib import Path

import click
from flask.cli import with_appcontext

from webhook_api.cli.copies import shown_copying
from webhook_api.cli.failures import PlainCommand
from webhook_api.cli.file_argument import check_input
from webhook_api.db import current_database
from webhook_api.maintenance.restore import restore


@click.command("restore", cls=PlainCommand)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@with_appcontext
def restore_database(file: Path) -> None:
    """Put the rows of FILE (`-` for stdin) in the place of the database; the service goes on.

    Each row is checked, and copied into a new file. The old database is kept beside it, under a
    dated name. Needs space for two copies of FILE.
    """
    check_input(file)
    database = current_database()
    with shown_copying("checking") as show:
        done = restore(database, file, show)
    click.echo(f"{database.path}: {done.report.messages} messages, nothing differs")
    if done.kept:
        click.echo(f"{done.kept}: kept")
