"""`restore`: a backup in the place of the database."""

import sys
from pathlib import Path

import click
from flask.cli import with_appcontext

from webhook_api.cli.failures import EXIT_FAILURE, PlainCommand
from webhook_api.cli.lines import progress_bar
from webhook_api.db import current_database
from webhook_api.store.backup import DamagedError
from webhook_api.store.restore import restore


@click.command("restore", cls=PlainCommand)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@with_appcontext
def restore_database(file: Path) -> None:
    """Put a copy of FILE (`-` for stdin) in the place of the database, while the service goes on.

    FILE is checked like `verify` does, and brought up to date if it is older. What was the
    database is kept beside it, under a dated name.
    """
    database = current_database()
    with progress_bar("checking", None) as bar:

        def show(done: int, of: int) -> None:
            bar.length = of
            bar.update(done - bar.pos)

        try:
            done = restore(database, file, show)
        except DamagedError as error:
            for difference in error.report.differences:
                click.echo(difference)
            sys.exit(EXIT_FAILURE)
    click.echo(f"{database.path}: {done.report.messages} messages, nothing differs")
    if done.kept:
        click.echo(f"{done.kept}: kept")
