"""`prune`: removes messages that are old enough."""

import sys
from datetime import UTC, datetime, timedelta

import click
from flask.cli import with_appcontext

from webhook_api.cli.durations import Duration
from webhook_api.cli.failures import EXIT_INTERRUPTED, PlainCommand, interrupts_held
from webhook_api.cli.lines import progress_bar
from webhook_api.db import current_database
from webhook_api.store.database import Database
from webhook_api.store.removal import Remover, find, one_at_a_time
from webhook_api.store.selection import Selection, older_than
from webhook_api.store.writer import Writer

_CLOSE_PATIENCE_S = 1.0


@click.command("prune", cls=PlainCommand)
@click.option("--older-than", "age", type=Duration(), required=True, help="12h, 90d or 8w.")
@click.option("--dry-run", is_flag=True, help="Count, remove nothing.")
@with_appcontext
def prune_messages(age: timedelta, dry_run: bool) -> None:
    """Remove the messages that arrived longer ago than that, by the server's time.

    Their ids stay known, so that a repeat is a duplicate. Can be used while the service runs,
    which fills the freed space again, and repeated after a stop.
    """
    selection = older_than(datetime.now(UTC) - age)
    if dry_run:
        click.echo(f"{_count(current_database(), selection)} messages would be removed")
    else:
        _remove(current_database(), selection)


def _count(database: Database, selection: Selection) -> int:
    count = 0
    with progress_bar("counting", None) as bar:
        for found in find(database, selection):
            count += len(found.row_ids)
            bar.length = found.of
            bar.update(found.scanned - bar.pos)
    return count


def _remove(database: Database, selection: Selection) -> None:
    """Remove what `selection` selects; print how many messages that were, even after Ctrl-C."""
    count = 0
    stopped = False
    with one_at_a_time(database):
        writer = Writer(database)
        remover = Remover(writer)
        try:
            with progress_bar("removing", None) as bar:
                for found in find(database, selection):
                    for batch in remover.batches(found.row_ids):
                        with interrupts_held():
                            count += remover.remove(batch, selection)
                    bar.length = found.of
                    bar.update(found.scanned - bar.pos)
        except KeyboardInterrupt:
            stopped = True
        finally:
            writer.close(patience_s=_CLOSE_PATIENCE_S)
    click.echo(f"{'stopped; ' if stopped else ''}{count} messages removed")
    if stopped:
        sys.exit(EXIT_INTERRUPTED)
