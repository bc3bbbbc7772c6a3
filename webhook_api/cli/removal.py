"""`prune` and `forget`: remove messages that are old enough, or of one number."""

import sys
import time
from datetime import UTC, datetime, timedelta

import click
from flask.cli import with_appcontext

from webhook_api.cli.copies import shown_copying
from webhook_api.cli.durations import Duration
from webhook_api.cli.failures import EXIT_INTERRUPTED, PlainCommand, interrupts_held
from webhook_api.cli.numbers import Number
from webhook_api.cli.progress import progress_bar
from webhook_api.cli.terminal import say
from webhook_api.db import current_database
from webhook_api.maintenance.compaction import compact
from webhook_api.maintenance.removal import PAUSE, Remover, find, removal_lock
from webhook_api.store.database import Database
from webhook_api.store.dead_letters import select_dead_letters
from webhook_api.store.files import other_files
from webhook_api.store.messages import Selection, of_number, older_than
from webhook_api.store.writer import Writer

_CLOSE_TIMEOUT_S = 1.0


@click.command("prune", cls=PlainCommand)
@click.option("--older-than", "age", type=Duration(), required=True, help="12h, 90d or 8w.")
@click.option("--dry-run", is_flag=True, help="Count, remove nothing.")
@click.option(
    "--compact",
    "compacts",
    is_flag=True,
    help="Give the space back to the disk; needs space for two copies of the database.",
)
@with_appcontext
def prune_messages(age: timedelta, dry_run: bool, compacts: bool) -> None:
    """Remove the messages that arrived longer ago than --older-than, by the server's time.

    Their ids stay known, so that a repeat is a duplicate. Can be used while the service runs,
    which fills the freed space again, and repeated after a stop.
    """
    selection = older_than(datetime.now(UTC) - age)
    if dry_run:
        _show_count(current_database(), selection)
    elif compacts:
        _compact(current_database(), selection)
    else:
        _remove(current_database(), selection)


@click.command("forget", cls=PlainCommand)
@click.argument("number", type=Number())
@click.option("--dry-run", is_flag=True, help="Count, remove nothing.")
@with_appcontext
def forget_number(number: str, dry_run: bool) -> None:
    """Remove every message from or to NUMBER, and all traces of it in the database's files.

    Their ids stay known, as digests, so that a repeat is a duplicate. Can be used while the
    service runs. After a stop, all is removed or nothing. Needs space for two copies of the
    database.
    """
    database = current_database()
    if dry_run:
        _show_count(database, of_number(number))
        return
    _compact(database, of_number(number))
    for file in other_files(database.path):
        say(f"{file}: may contain the number; delete it if you do not need it")


def _show_count(database: Database, selection: Selection) -> None:
    count = _count(database, selection)
    with database.reader() as db:
        letters = len(select_dead_letters(db, selection))
    click.echo(f"{count} messages{_and_letters(letters)} would be removed")


def _and_letters(count: int) -> str:
    return f" and {count} dead letters" if count else ""


def _count(database: Database, selection: Selection) -> int:
    count = 0
    with progress_bar("counting", None) as bar:
        for found in find(database, selection):
            count += len(found.row_ids)
            bar.length = found.of
            bar.update(found.scanned - bar.pos)
    return count


def _remove(database: Database, selection: Selection) -> None:
    """Remove what `selection` selects; print how many messages, also if it stops before the end."""
    stopped = False
    with removal_lock(database):
        writer = Writer(database)
        remover = Remover(writer)
        try:
            while remover.remove_letters(selection):
                time.sleep(PAUSE * remover.took_s)
            with progress_bar("removing", None) as bar:
                for found in find(database, selection):
                    for batch in remover.batches(found.row_ids):
                        with interrupts_held():
                            remover.remove(batch, selection)
                    bar.length = found.of
                    bar.update(found.scanned - bar.pos)
        except KeyboardInterrupt:
            stopped = True
        except Exception:
            if remover.removed:
                click.echo(f"stopped; {remover.removed} messages removed")
            raise
        finally:
            writer.close(timeout_s=_CLOSE_TIMEOUT_S)
    letters = _and_letters(remover.removed_letters)
    click.echo(f"{'stopped; ' if stopped else ''}{remover.removed} messages{letters} removed")
    if stopped:
        sys.exit(EXIT_INTERRUPTED)


def _compact(database: Database, selection: Selection) -> None:
    """Remove what `selection` selects, and make the file as small as it can be."""
    try:
        with shown_copying("copying and checking") as show:
            done = compact(database, selection, show)
    except KeyboardInterrupt:
        click.echo("stopped; nothing was removed")
        sys.exit(EXIT_INTERRUPTED)
    click.echo(f"{done.removed} messages{_and_letters(done.removed_letters)} removed")
    click.echo(f"{database.path}: {done.bytes_after} bytes, {done.bytes_before} before")
