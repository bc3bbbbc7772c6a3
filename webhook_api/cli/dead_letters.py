"""`dead-letters`: what providers signed and no message could be made of; look at it, try again."""

import sys
from functools import partial

import click
from flask.cli import AppGroup, with_appcontext

from webhook_api.cli.bulk import store_batch
from webhook_api.cli.command import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    PlainCommand,
    clip,
    interrupts_held,
    plain,
    writing,
)
from webhook_api.db import current_database
from webhook_api.maintenance.removal import LOCKED_TIMEOUT_S, removal_lock
from webhook_api.models import MAX_INTEGER
from webhook_api.providers import read_delivery
from webhook_api.providers.delivery import UnreadableError
from webhook_api.store.dead_letters import (
    DeadLetter,
    dead_letter_sizes,
    find_dead_letter,
    remove_dead_letters,
)
from webhook_api.store.schema import check_schema
from webhook_api.store.writer import Writer

_STEP_MESSAGES = 1000  # stored by one transaction
_NUMBER = click.IntRange(1, MAX_INTEGER)


class _PlainGroup(PlainCommand, AppGroup):
    """A group of commands that fail with one line."""

    command_class = PlainCommand


@click.group("dead-letters", cls=_PlainGroup, invoke_without_command=True)
@click.pass_context
@with_appcontext
def dead_letters(context: click.Context) -> None:
    """List the deliveries that are kept aside; `show N` prints one, `replay` tries again."""
    if context.invoked_subcommand is not None:
        return
    with current_database().reader() as db:
        check_schema(db)
        for number, created_at, provider, reason, size in dead_letter_sizes(db):
            click.echo(f"{number}  {created_at}  {provider}  {size} bytes  {clip(reason)}")


@dead_letters.command("show")
@click.argument("number", metavar="N", type=_NUMBER)
def show_dead_letter(number: int) -> None:
    """Print one: its headers, and its body as it came."""
    letter = _find(number)
    click.echo(f"{letter.provider}, {letter.created_at}: {clip(letter.reason)}", err=True)
    for name, value in letter.headers.items():
        click.echo(f"{name}: {plain(value)}", err=True)
    if sys.stdout.isatty():
        click.echo("\n".join(map(plain, letter.body.decode(errors="replace").splitlines())))
    else:
        with click.open_file("-", "wb") as out:
            out.write(letter.body)


@dead_letters.command("replay")
@click.argument("numbers", metavar="[N…]", nargs=-1, type=_NUMBER)
def replay_dead_letters(numbers: tuple[int, ...]) -> None:
    """Read them again with the present code, all or those given, and store what comes of them.

    Each message is stored once. What still cannot be read stays; the exit code is then 1. Can be
    used while the service runs, and repeated after a stop.
    """
    database = current_database()
    stay = 0
    with removal_lock(database):
        if not numbers:
            with database.reader() as db:
                check_schema(db)
                numbers = tuple(number for number, *_ in dead_letter_sizes(db))
        with writing(database) as writer:
            try:
                for number in numbers:
                    stay += not _replay(writer, number)
            except KeyboardInterrupt:
                click.echo("stopped")
                sys.exit(EXIT_INTERRUPTED)
    if stay:
        sys.exit(EXIT_FAILURE)


@dead_letters.command("remove")
@click.argument("numbers", metavar="N…", nargs=-1, required=True, type=_NUMBER)
def remove_numbers(numbers: tuple[int, ...]) -> None:
    """Remove those that nobody needs. The exit code is 1 if there was one that is not there."""
    database = current_database()
    with removal_lock(database), writing(database) as writer:
        count = writer.write(
            partial(remove_dead_letters, numbers=numbers), timeout_s=LOCKED_TIMEOUT_S
        )
    click.echo(f"{count} removed")
    if missing := len(set(numbers)) - count:
        click.echo(f"{missing} of them are not there", err=True)
        sys.exit(EXIT_FAILURE)


def _find(number: int) -> DeadLetter:
    with current_database().reader() as db:
        check_schema(db)
        letter = find_dead_letter(db, number)
    if letter is None:
        raise click.ClickException(f"there is no dead letter {number}")
    return letter


def _replay(writer: Writer, number: int) -> bool:
    """Store what one holds, and print what came of it; return whether it could be removed."""
    letter = _find(number)
    try:
        delivery = read_delivery(
            letter.provider, letter.headers, letter.body, letter.created_at, None
        )
    except UnreadableError as error:
        click.echo(f"{number}: stays, {clip(str(error))}")
        return False
    created = 0
    for at in range(0, len(delivery.messages), _STEP_MESSAGES):
        step = delivery.messages[at : at + _STEP_MESSAGES]
        with interrupts_held():
            created += sum(result.created for result in store_batch(writer, step))
    if not delivery.reason:
        writer.write(partial(remove_dead_letters, numbers=[number]), timeout_s=LOCKED_TIMEOUT_S)
    duplicates = len(delivery.messages) - created
    stays = f"; stays, {delivery.reason}" if delivery.reason else ""
    click.echo(f"{number}: created {created}, duplicate {duplicates}{stays}")
    return not delivery.reason
