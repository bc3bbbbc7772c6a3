"""`backup`: writes a checked copy of the database."""

from pathlib import Path

import click
from flask.cli import with_appcontext

from webhook_api.cli.copies import shown_copying
from webhook_api.cli.failures import PlainCommand
from webhook_api.cli.terminal import say
from webhook_api.db import current_database
from webhook_api.maintenance.backup import back_up, dated_name, remove_older


@click.command("backup", cls=PlainCommand)
@click.argument("destination", type=click.Path(path_type=Path))
@click.option(
    "--keep",
    type=click.IntRange(1),
    help="DESTINATION is a folder: keep this many backups in it, with dated names.",
)
@with_appcontext
def back_up_database(destination: Path, keep: int | None) -> None:
    """Write the database as it is now to DESTINATION, while the service goes on.

    The file gets its name when it is complete, checked like `verify` does, and on disk. It
    replaces an older backup of that name.
    """
    database = current_database()
    if keep:
        destination.mkdir(mode=0o700, exist_ok=True)
        destination = dated_name(database, destination)
    with shown_copying("copying and checking") as show:
        done = back_up(database, destination, show)
    click.echo(f"{done.path}: {done.report.messages} messages, nothing differs")
    if keep:
        for removed in remove_older(database, done.path, keep=keep):
            say(f"{removed}: removed")
