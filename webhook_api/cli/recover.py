"""`recover`: fetch from a provider what it could not deliver, and store what is missing."""

import sys

import click
from flask import current_app
from flask.cli import with_appcontext

from webhook_api.cli.bulk import Importer
from webhook_api.cli.failures import EXIT_FAILURE, EXIT_INTERRUPTED, PlainCommand, interrupts_held
from webhook_api.cli.twilio_list import API, list_messages
from webhook_api.config import Config, ConfigError
from webhook_api.db import current_database
from webhook_api.models import MessageFilter, parse_query
from webhook_api.providers import twilio
from webhook_api.timestamps import now_as_text


@click.command("recover", cls=PlainCommand)
@click.argument("provider", type=click.Choice([twilio.NAME]))
@click.option("--since", required=True, help="Messages sent at this instant or later.")
@click.option("--until", help="Messages sent earlier than this instant.")
@click.option("--api", metavar="URL", default=API, show_default=True, help="Where the list is.")
@with_appcontext
def recover_messages(provider: str, since: str, until: str | None, api: str) -> None:
    """Fetch the provider's own list of messages, and store those from users that are missing.

    Each has the id that the webhook gives it, so it is stored once. Can be used while the service
    runs, and repeated after a stop. Needs TWILIO_ACCOUNT_SID, and TWILIO_API_KEY or
    TWILIO_AUTH_TOKEN.
    """
    account, key = _account(current_app.config["SETTINGS"])
    wanted = parse_query(MessageFilter, {"since": since, "until": until or ""})
    if wanted.since is None:
        raise click.UsageError("--since is empty")
    begin = wanted.since.instant
    created = found = nameless = 0
    stopped = False
    importer = Importer(current_database())
    try:
        for page in list_messages(api, account, key, wanted.since.text[:10]):
            delivery = twilio.parse_listed(page, now_as_text())
            nameless += delivery.unstorable.total()
            messages = [
                message
                for message in delivery.messages
                if message.ts.instant >= begin
                and (wanted.until is None or message.ts.instant < wanted.until.instant)
            ]
            if messages:
                with interrupts_held():
                    created += sum(result.created for result in importer.store(messages))
                    found += len(messages)
    except KeyboardInterrupt:
        stopped = True
    finally:
        importer.close()
        summary = f"created {created}, duplicate {found - created}, without a valid id {nameless}"
        click.echo(("stopped; " if stopped else "") + summary)
    if stopped or nameless:
        sys.exit(EXIT_INTERRUPTED if stopped else EXIT_FAILURE)


def _account(config: Config) -> tuple[str, str]:
    """Return the account, and a key for it as `USER:PASSWORD`.

    Raises:
        ConfigError: a setting is missing.
    """
    account = config.twilio_account_sid
    if not account:
        raise ConfigError("TWILIO_ACCOUNT_SID is not set")
    if config.twilio_api_key:
        return account, config.twilio_api_key
    if not config.twilio_auth_tokens:
        raise ConfigError("TWILIO_AUTH_TOKEN is not set, and TWILIO_API_KEY is not")
    return account, f"{account}:{config.twilio_auth_tokens[0]}"
