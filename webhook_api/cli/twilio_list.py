"""Twilio's own list of an account's messages, over HTTP.

Source: twilio.com/docs, "Message resource: Read multiple Message resources", and "Twilio's
response": paging by `next_page_uri`.
"""

import base64
import re
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import click

from webhook_api.cli.failures import clip
from webhook_api.errors import InvalidInput
from webhook_api.models import parse_json

API = "https://api.twilio.com"

_PAGE_ROWS = 250  # stored by one transaction, for which deliveries wait
_MAX_PAGE_BYTES = 8 * 1024 * 1024
_TIMEOUT_S = 30.0


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow none: the key is for this host only."""


def list_messages(api: str, account: str, key: str, since_day: str) -> Iterator[list[Any]]:
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


def _fetch(url: str, key: str) -> Any:
    host = urlsplit(url).netloc
    basic = base64.b64encode(key.encode(errors="surrogateescape")).decode()
    request = Request(url, headers={"Authorization": f"Basic {basic}"})  # noqa: S310 - http(s)
    try:
        with build_opener(_NoRedirect).open(request, timeout=_TIMEOUT_S) as response:
            body = response.read(_MAX_PAGE_BYTES + 1)
    except HTTPError as error:
        with error:
            reason = clip(error.read(1000).decode(errors="replace"))
        raise click.ClickException(f"{host} answered {error.code}: {reason}") from None
    except (OSError, HTTPException) as error:
        raise click.ClickException(f"{host}: {clip(str(error) or type(error).__name__)}") from None
    if len(body) > _MAX_PAGE_BYTES:
        raise click.ClickException(f"{host}: a page is longer than {_MAX_PAGE_BYTES} bytes")
    try:
        return parse_json(body)
    except InvalidInput:
        raise click.ClickException(f"{host}: the answer is not JSON") from None
