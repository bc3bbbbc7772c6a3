"""Commands for the database file, and for copies of it: backups, and Litestream's replica."""

import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from webhook_api.cli.command import (
    check_input,
    command,
    current_settings,
    describe,
    say,
    shown_progress,
)
from webhook_api.cli.deliver import target_of
from webhook_api.db import current_database
from webhook_api.errors import RequestRefused
from webhook_api.maintenance.backup import back_up, dated_name, remove_older
from webhook_api.maintenance.replica import Replica, Source, drill, follow, newest_backup, promote
from webhook_api.maintenance.restore import restore
from webhook_api.maintenance.verify import verify
from webhook_api.store.database import Database


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
    database = current_database()
    if keep:
        destination.mkdir(mode=0o700, exist_ok=True)
        destination = dated_name(database, destination)
    destination = destination.absolute()
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


_configuration = click.option(
    "--config",
    "configuration",
    type=click.Path(path_type=Path),
    help="Litestream's configuration; default: its own, /etc/litestream.yml.",
)


@command("drill")
@_configuration
@click.option(
    "--backups",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Try the newest of the dated backups in this folder, not the replica.",
)
@click.option(
    "--scratch",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder for the copy, which is removed afterwards; default: beside the database.",
)
def try_replica(configuration: Path | None, backups: Path | None, scratch: Path | None) -> None:
    """Restore the replica to a scratch folder, check it, and compare it with the database.

    Prints how old it is and how long that took; the exit code is 1 if anything is missing or
    differs. The service goes on. Needs as much space as the database, and some more.
    """
    database = current_database()
    folder = scratch or database.path.parent
    if backups:
        source = newest_backup(database, backups)
    else:
        source = Replica(database.path, configuration).newest()
    with shown_progress("checking") as show:
        messages, restore_s, check_s = drill(database, source, folder, show)
    say(
        f"{source.name}: {messages} messages, nothing differs; {_age(source)};"
        f" restored in {restore_s:.1f} s, checked in {check_s:.1f} s"
    )


@command("follow")
@_configuration
@click.option("--every", type=click.IntRange(1, 86_400), help="Do it again after so many seconds.")
def follow_primary(configuration: Path | None, every: int | None) -> None:
    """Make this standby's database a copy of the replica; its service shows it at once.

    Each time the whole replica is restored, to a folder beside the database. With --every, what
    fails is tried again, until the command is stopped.
    """
    database = _of_standby()
    while True:
        began = time.monotonic()
        try:
            source = follow(database, Replica(database.path, configuration))
            say(f"{database.path}: copied from the replica, {_age(source)}")
        except (OSError, sqlite3.Error, RequestRefused) as error:
            if not every:
                raise
            say(f"Error: {describe(error)}", err=True)
        if not every:
            return
        time.sleep(max(0.0, began + every - time.monotonic()))


@command("promote")
@_configuration
@click.option(
    "--primary",
    required=True,
    help="URL of the old primary itself, not of a proxy: nobody may listen there.",
)
@click.option(
    "--watch",
    type=click.IntRange(0, 3600),
    default=15,
    show_default=True,
    help="Seconds in which nobody may write to the replica.",
)
def promote_standby(configuration: Path | None, primary: str, watch: int) -> None:
    """Make this standby's database the only one, with all that the replica has.

    Refuses while the old primary answers, or while anybody writes to the replica. The copy is
    checked like `verify` does.
    """
    database, replica = _of_standby(), Replica(current_database().path, configuration)
    target = target_of(primary, "--primary")
    address = str(target.hostname), target.port or {"http": 80, "https": 443}[target.scheme]
    with shown_progress("checking") as show:
        source, messages = promote(database, replica, address, show, watch_s=watch)
    say(f"{database.path}: {messages} messages, nothing differs; {_age(source)}")
    click.echo(
        "Now, in this order:\n"
        "1. Fence the old primary: switch it off, or take its key to the replica away. Should it\n"
        "   start again, it must not take deliveries.\n"
        "2. Give Litestream here a new, empty place for its replica.\n"
        "3. Set ROLE=primary, and start the service and Litestream.\n"
        "4. Move the name or the address that the providers call, then run recover."
    )


def _of_standby() -> Database:
    """Return the database as one that can be written.

    Raises:
        click.ClickException: this is no standby.
    """
    if not current_settings().is_standby:
        raise click.ClickException("ROLE is primary: only a standby's database is a copy")
    return Database(current_database().path)


def _age(source: Source) -> str:
    age_s = (datetime.now(UTC) - source.moment).total_seconds()
    return f"as of {source.moment:%Y-%m-%dT%H:%M:%SZ}, {max(0.0, age_s):.0f} s ago"
