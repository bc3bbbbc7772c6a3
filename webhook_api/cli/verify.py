"""`verify`: checks the database file."""

import sys
from pathlib import Path

import click
from flask.cli import with_appcontext

from webhook_api.cli.failures import EXIT_FAILURE, PlainCommand
from webhook_api.cli.terminal import say
from webhook_api.db import current_database
from webhook_api.maintenance.verify import verify


@click.command("verify", cls=PlainCommand)
@click.option(
    "--scratch",
    type=click.Path(path_type=Path),
    help="Folder for a copy of the database; default: beside it.",
)
@with_appcontext
def verify_database(scratch: Path | None) -> None:
    """Compare the counters and the search index with the messages, and check the file.

    Prints what differs; the exit code is then 1. Works on a copy, which needs as much space as
    the database; the service goes on.
    """
    database = current_database()
    report = verify(database, scratch)
    for difference in report.differences:
        say(difference)
    if report.differences:
        sys.exit(EXIT_FAILURE)
    click.echo(f"{database.path}: {report.messages} messages, nothing differs")
