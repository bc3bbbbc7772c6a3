"""`prune` and `forget`: remove messages that are old enough, or of one number."""

import re
import sys
import time
from datetime import UTC, datetime, timedelta

import click
from pydantic import TypeAdapter, ValidationError

from webhook_api.cli.command import (
    EXIT_INTERRUPTED,
    command,
    finish,
    interrupts_held,
    say,
    shown_progress,
    writing,
)
from webhook_api.db import current_database
from webhook_api.maintenance.compaction import compact
from webhook_api.maintenance.removal import PAUSE, Remover, find, removal_lock
from webhook_api.models import PhoneNumber
from webhook_api.store.database import Database
from webhook_api.store.dead_letters import select_dead_letters
from webhook_api.store.files import other_files
from webhook_api.store.messages import Selection, of_number, older_than

_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_EXAMPLES = "as in 12h, 90d or 8w"
_NUMBER: TypeAdapter[str] = TypeAdapter(PhoneNumber)
# A short code, or what begins with a letter. More digits are a number without its plus.
_OTHER_ADDRESS = re.compile(r"[0-9]{3,8}|[^\W\d_].*")


def duration(value: str) -> timedelta:
    """Return what 12h, 90d or 8w names: a whole number above 0 and its unit."""
    number, unit = value[:-1], value[-1:]
    reason = ""
    if unit not in _UNITS:
        reason = f"has {'no' if unit.isdigit() or not unit else 'an unknown'} unit, {_EXAMPLES}"
    elif not (number.isascii() and number.isdigit() and int(number[:20]) > 0):
        reason = f"is not a whole number above 0 with a unit, {_EXAMPLES}"
    else:
        try:
            age = timedelta(**{_UNITS[unit]: int(number)})
            datetime.now() - age
            return age
        except (OverflowError, ValueError):
            reason = "is before the year 1"
    raise click.BadParameter(f"{value!r} {reason}")


def address(value: str) -> str:
    """Return an address as messages have it: +919876543210, US.1349, 68849."""
    if _OTHER_ADDRESS.fullmatch(value) and value.isprintable():
        return value
    try:
        return _NUMBER.validate_python(value)
    except ValidationError:
        raise click.BadParameter(f"{value!r} is no number, as in +919876543210") from None


@command("prune")
@click.option("--older-than", "age", type=duration, required=True, help="12h, 90d or 8w.")
@click.option("--dry-run", is_flag=True, help="Count, remove nothing.")
@click.option(
    "--compact",
    "compacts",
    is_flag=True,
    help="Give the space back to the disk; needs space for two copies of the database.",
)
def prune_messages(age: timedelta, dry_run: bool, compacts: bool) -> None:
    """Remove the messages that arrived longer ago than --older-than, by the server's time.

    Their ids stay known, so that a repeat is a duplicate. Can be used while the service runs,
    which fills the freed space again, and repeated after a stop.
    """
    remove = _count if dry_run else _compact if compacts else _remove
    remove(current_database(), older_than(datetime.now(UTC) - age))


@command("forget")
@click.argument("number", type=address)
@click.option("--dry-run", is_flag=True, help="Count, remove nothing.")
def forget_number(number: str, dry_run: bool) -> None:
    """Remove every message from or to NUMBER, and all traces of it in the database's files.

    So are the messages whose payload has it as a sender, contact or other member, and the dead
    letters that contain it. A text of somebody else that mentions it stays.

    Their ids stay known, as digests, so that a repeat is a duplicate. Can be used while the
    service runs. After a stop, all is removed or nothing. Needs space for two copies of the
    database.
    """
    database = current_database()
    if dry_run:
        _count(database, of_number(number))
        return
    _compact(database, of_number(number))
    for file in other_files(database.path):
        say(f"{file}: may contain the number; delete it if you do not need it")


def _and_letters(count: int) -> str:
    return f" and {count} dead letters" if count else ""


def _count(database: Database, selection: Selection) -> None:
    """Print how much `selection` selects."""
    count = 0
    with shown_progress("counting") as show:
        for row_ids in find(database, selection, show):
            count += len(row_ids)
    with database.reader() as db:
        letters = len(select_dead_letters(db, selection))
    click.echo(f"{count} messages{_and_letters(letters)} would be removed")


def _remove(database: Database, selection: Selection) -> None:
    """Remove what `selection` selects; print how many messages, also if it stops before the end."""
    stopped = False
    with removal_lock(database), writing(database) as writer:
        remover = Remover(writer)
        try:
            while remover.remove_letters(selection):
                time.sleep(PAUSE * remover.took_s)
            with shown_progress("removing") as show:
                for row_ids in find(database, selection, show):
                    for batch in remover.batches(row_ids):
                        with interrupts_held():
                            remover.remove(batch, selection)
        except KeyboardInterrupt:
            stopped = True
        except Exception:
            if remover.removed:
                click.echo(f"stopped; {remover.removed} messages removed")
            raise
    letters = _and_letters(remover.removed_letters)
    finish(f"{remover.removed} messages{letters} removed", stopped=stopped)


def _compact(database: Database, selection: Selection) -> None:
    """Remove what `selection` selects, and make the file as small as it can be."""
    try:
        with shown_progress("copying and checking") as show:
            done = compact(database, selection, show)
    except KeyboardInterrupt:
        click.echo("stopped; nothing was removed")
        sys.exit(EXIT_INTERRUPTED)
    click.echo(f"{done.removed} messages{_and_letters(done.removed_letters)} removed")
    click.echo(f"{database.path}: {done.bytes_after} bytes, {done.bytes_before} before")
