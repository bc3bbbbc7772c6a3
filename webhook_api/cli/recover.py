"""`recover`: fetch from Twilio what it could not deliver, and store what is missing.

Source: twilio.com/docs, "Message resource: Read multiple Message resources", and "Twilio's
response": paging by `next_page_uri`.
"""

import base64
import re
import sys
from collections.abc import Iterator
from http.client import HTTPException
from time import sleep
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import click

from webhook_api.cli.bulk import bulk_writer, store_batch
from webhook_api.cli.command import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    clip,
    command,
    current_settings,
    interrupts_held,
    say,
)
from webhook_api.config import Config, ConfigError
from webhook_api.db import current_database
from webhook_api.errors import InvalidInput
from webhook_api.models import MessageFilter, parse_json, parse_query
from webhook_api.providers import twilio
from webhook_api.timestamps import now_as_text

_API = "https://api.twilio.com"
_PAGE_ROWS = 250  # stored by one transaction, for which deliveries wait
_MAX_PAGE_BYTES = 8 * 1024 * 1024
_TIMEOUT_S = 30.0
_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0)  # before further attempts, unless Twilio names a longer one
_LONGEST_PAUSE_S = 120.0
_FOR_NOW = {429, 500, 502, 503, 504}  # "Best practices for 429s", and what a gateway answers


@command("recover")
@click.argument("provider", type=click.Choice([twilio.NAME]))
@click.option("--since", required=True, help="Messages sent at this instant or later.")
@click.option("--until", help="Messages sent earlier than this instant.")
@click.option("--api", metavar="URL", default=_API, show_default=True, help="Where the list is.")
def recover_messages(provider: str, since: str, until: str | None, api: str) -> None:
    """Fetch the provider's own list of messages, and store those from users that are missing.

    Each has the id that the webhook gives it, so it is stored once. Can be used while the service
    runs, and repeated after a stop. Needs TWILIO_ACCOUNT_SID, and TWILIO_API_KEY or
    TWILIO_AUTH_TOKEN.
    """
    account, key = _account(current_settings())
    wanted = parse_query(MessageFilter, {"since": since, "until": until or ""})
    if wanted.since is None:
        raise click.UsageError("--since is empty")
    created = found = nameless = 0
    stopped = False
    with bulk_writer(current_database()) as writer:
        try:
            for page in _pages(api, account, key, wanted.since.text[:10]):
                delivery = twilio.parse_listed(page, now_as_text())
                nameless += delivery.unstorable.total()
                messages = [
                    message
                    for message in delivery.messages
                    if message.ts.instant >= wanted.since.instant
                    and (wanted.until is None or message.ts.instant < wanted.until.instant)
                ]
                if messages:
                    with interrupts_held():
                        created += sum(one.created for one in store_batch(writer, messages))
                        found += len(messages)
        except KeyboardInterrupt:
            stopped = True
        finally:  # also if a page could not be fetched
            counts = f"created {created}, duplicate {found - created}"
            summary = f"{counts}, without a valid id {nameless}"
            click.echo(f"stopped; {summary}" if stopped else summary)
    if stopped or nameless:
        sys.exit(EXIT_INTERRUPTED if stopped else EXIT_FAILURE)


def _account(config: Config) -> tuple[str, str]:
    """Return the account, and a key for it as `USER:PASSWORD`, or raise ConfigError."""
    account = config.twilio_account_sid
    if not account:
        raise ConfigError("TWILIO_ACCOUNT_SID is not set")
    if config.twilio_api_key:
        return account, config.twilio_api_key
    if not config.twilio_auth_tokens:
        raise ConfigError("TWILIO_AUTH_TOKEN is not set, and TWILIO_API_KEY is not")
    return account, f"{account}:{config.twilio_auth_tokens[0]}"


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow none: the key is for this host only."""


def _pages(api: str, account: str, key: str, since_day: str) -> Iterator[list[Any]]:
    """Yield the pages of the list, newest first, back to the day `since_day` (YYYY-MM-DD, UTC).

    `key` is `USER:PASSWORD`: the account and its token, or an API key and its secret.

    Raises:
        click.ClickException: a page could not be fetched, or is not what Twilio describes.
    """
    target = urlsplit(api)
    is_local = target.hostname in ("localhost", "127.0.0.1", "::1")
    if not target.hostname or target.scheme not in ("https", *(["http"] if is_local else [])):
        raise click.ClickException(f"--api is {api!r}: accepted are https:// URLs")
    query = urlencode({"DateSent>": since_day, "PageSize": _PAGE_ROWS})
    path: object = f"/2010-04-01/Accounts/{quote(account, safe='')}/Messages.json?{query}"
    seen = set()
    while path is not None:
        # Another host would get the key, and the same page again has no end.
        if not isinstance(path, str) or not re.fullmatch("/[!-~]*", path) or path in seen:
            raise click.ClickException(f"{api}: the reference to the next page is not one")
        seen.add(path)
        page = _fetch(api.rstrip("/") + path, key)
        if not isinstance(page, dict) or not isinstance(page.get("messages"), list):
            raise click.ClickException(f"{api}: the answer is not a list of messages")
        yield page["messages"]
        path = page.get("next_page_uri")


class _NotNow(click.ClickException):
    """A failure that may pass; `pause_s` is how long the server asks to wait."""

    def __init__(self, message: str, pause_s: float = 0.0) -> None:
        super().__init__(message)
        self.pause_s = pause_s


def _fetch(url: str, key: str) -> Any:
    for pause_s in _PAUSES_S:
        try:
            return _fetch_once(url, key)
        except _NotNow as failure:
            pause_s = min(max(pause_s, failure.pause_s), _LONGEST_PAUSE_S)
            say(f"{failure.message}; trying again in {pause_s:g} s", err=True)
            sleep(pause_s)
    return _fetch_once(url, key)


def _fetch_once(url: str, key: str) -> Any:
    host = urlsplit(url).netloc
    basic = base64.b64encode(key.encode(errors="surrogateescape")).decode()
    request = Request(url, headers={"Authorization": f"Basic {basic}"})  # noqa: S310 - http(s)
    try:
        with build_opener(_NoRedirect).open(request, timeout=_TIMEOUT_S) as response:
            body = response.read(_MAX_PAGE_BYTES + 1)
    except HTTPError as error:
        with error:
            reason = clip(error.read(1000).decode(errors="replace"))
        message = f"{host} answered {error.code}: {reason}"
        if error.code in _FOR_NOW:
            after = error.headers.get("Retry-After", "")
            raise _NotNow(
                message, float(after) if re.fullmatch("[0-9]{1,9}", after) else 0
            ) from None
        raise click.ClickException(message) from None
    except (OSError, HTTPException) as error:
        raise _NotNow(f"{host}: {clip(str(error) or type(error).__name__)}") from None
    if len(body) > _MAX_PAGE_BYTES:
        raise click.ClickException(f"{host}: a page is longer than {_MAX_PAGE_BYTES} bytes")
    try:
        return parse_json(body)
    except InvalidInput:
        # Perhaps it was cut short.
        raise _NotNow(f"{host}: the answer is not JSON") from None
