"""`init-db`, `verify`, `backup` and `restore`: commands for the database file."""

from pathlib import Path

import click

from webhook_api.cli.command import check_input, command, say, shown_progress
from webhook_api.db import current_database
from webhook_api.maintenance.backup import back_up, dated_name, remove_older
from webhook_api.maintenance.restore import restore
from webhook_api.maintenance.verify import verify


def _show_sound(path: Path, messages: int) -> None:
    click.echo(f"{path}: {messages} messages, nothing differs")


@command("init-db")
def create_database() -> None:
    """Create the database file, or update its schema. Removes nothing.

    The service does this when it starts. If the file is lost later, this creates a new one, and
    the running service goes on with it.
    """
    database = current_database()
    database.prepare(create=True)
    click.echo(f"{database.path}: ready")


@command("verify")
@click.option(
    "--scratch",
    type=click.Path(path_type=Path),
    help="Folder for a copy of the database; default: beside it.",
)
def verify_database(scratch: Path | None) -> None:
    """Compare the counters and the search index with the messages, and check the file.

    Prints what differs; the exit code is then 1. Works on a copy, which needs as much space as
    the database; the service goes on.
    """
    database = current_database()
    _show_sound(database.path, verify(database, scratch))


@command("backup")
@click.argument("destination", type=click.Path(path_type=Path))
@click.option(
    "--keep",
    type=click.IntRange(1),
    help="DESTINATION is a folder: keep this many backups in it, with dated names.",
)
def back_up_database(destination: Path, keep: int | None) -> None:
    """Write the database as it is now to DESTINATION, while the service goes on.

    The file gets its name when it is complete, checked like `verify` does, and on disk. It
    replaces an older backup of that name.
    """
    database, destination = current_database(), destination.absolute()
    if keep:
        destination.mkdir(mode=0o700, exist_ok=True)
        destination = dated_name(database, destination)
    with shown_progress("copying and checking") as show:
        messages = back_up(database, destination, show)
    _show_sound(destination, messages)
    if keep:
        for removed in remove_older(database, destination, keep=keep):
            say(f"{removed}: removed")


@command("restore")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
def restore_database(file: Path) -> None:
    """Put the rows of FILE (`-` for stdin) in the place of the database; the service goes on.

    Each row is checked, and copied into a new file. The old database is kept beside it, under a
    dated name. Needs space for two copies of FILE.
    """
    check_input(file)
    database = current_database()
    with shown_progress("checking") as show:
        messages, kept = restore(database, file, show)
    _show_sound(database.path, messages)
    if kept:
        click.echo(f"{kept}: kept")
