"""The HTML of the pages at /inbox, and of errors there."""

import time
from typing import Any

from flask import Response, current_app, make_response, render_template, request, url_for

from webhook_api.config import Config
from webhook_api.errors import RETRY_AFTER_S
from webhook_api.inbox.session import COOKIE, Sessions
from webhook_api.store.files import SESSIONS, beside
from webhook_api.web.access import current_read_token

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def is_inbox_page(path: str) -> bool:
    """Return whether `path` is a page for people: /inbox and below, except /inbox/new."""
    return f"{path}/".startswith("/inbox/") and path != "/inbox/new"


def may_read() -> bool:
    """Return whether the current request's browser may see messages."""
    token = current_read_token()
    return not token or current_sessions().is_live(request.cookies.get(COOKIE, ""), time.time())


def current_sessions() -> Sessions:
    """Return the sessions of the current application."""
    settings: Config = current_app.config["SETTINGS"]
    return Sessions(beside(settings.database_path, SESSIONS), settings.read_token)


def render_inbox(template: str, **values: Any) -> Response:
    """Return a page made of `template`; it escapes what is in `values`."""
    values |= {
        "has_token": bool(current_read_token()),
        "may_read": may_read(),
        "retry_s": RETRY_AFTER_S,
    }
    values |= {"home": url_for("inbox.show_inbox"), "docs": url_for("docs.show_docs")}
    page = render_template(f"inbox/{template}", **values)
    response = make_response(page.replace("\x00", "\u2400"))  # HTML cannot have U+0000
    response.headers["Content-Security-Policy"] = _POLICY
    return response


def render_failure(status: int, detail: object) -> Response:
    """Return the page of an error; `detail` is that of the API."""
    if isinstance(detail, list):
        detail = [f"{item['loc'][-1]}: {item['msg']}" for item in detail]
    return render_inbox("failure.html", status=status, detail=detail)
