"""The pages at /inbox, where people look at what came in."""

import re
import time
from http import HTTPStatus
from json import dumps

from flask import Blueprint, Response, jsonify, redirect, request, url_for
from werkzeug.exceptions import NotFound, Unauthorized
from werkzeug.wrappers import Response as AnyResponse

from webhook_api.db import get_db, reader
from webhook_api.errors import Unavailable
from webhook_api.execution import execution_of
from webhook_api.inbox.marks import mark_hits
from webhook_api.inbox.messages import (
    ArrivalsQuery,
    InboxQuery,
    count_new,
    describe_kind,
    kinds_of,
    list_inbox,
    newest_id,
    page_takes_long,
)
from webhook_api.inbox.overview import count_overview, draw
from webhook_api.inbox.session import COOKIE, PAUSE_S, SESSION_S
from webhook_api.models import MAX_INTEGER, MessageFilter, parse_query
from webhook_api.reading.listing import find_message
from webhook_api.services import current_services
from webhook_api.store.positions import lag_of, list_consumers
from webhook_api.web.access import CHALLENGE, current_read_token, is_read_token
from webhook_api.web.inbox_page import current_sessions, may_read, render_inbox

_OPEN = {"inbox.show_login", "inbox.log_in"}
_OWN_PAGE = re.compile(r"/inbox(/messages/[0-9]+|/consumers)?(\?[!-~]*)?")

_CHARS_BEFORE_HIT = 100
_LONG_CHARS, _LONG_LINES = 700, 7  # of a text: in the list, it is cut short after them

bp = Blueprint("inbox", __name__)


@bp.app_template_filter("before_hit")
def shorten_before_hit(text: str) -> str:
    """Return the part of a long text before its first hit; if that is long too, only its end."""
    return text if len(text) <= _CHARS_BEFORE_HIT else f"… {text[-_CHARS_BEFORE_HIT:]}"


@bp.before_request
def ask_for_login() -> AnyResponse | None:
    """If there is a read token, ask for it unless there is a session."""
    if request.endpoint in _OPEN or may_read():
        return None
    if request.endpoint == "inbox.count_new_messages":
        raise Unauthorized("the session has ended")
    query = request.query_string.decode("ascii", "ignore")
    return redirect(url_for("inbox.show_login", next=f"{request.path}?{query}".rstrip("?")), 303)


@bp.get("/inbox")
def show_inbox() -> Response:
    """Respond with a page of messages, newest first."""
    query = parse_query(InboxQuery, request.args)
    plain = not query.model_dump(exclude_none=True, exclude={"order"})
    with reader(takes_long=page_takes_long(query)) as db:
        newest = newest_id(db)  # before the list, so that no new message is missed
        page = list_inbox(db, query, current_services().counts)
        silent = [message.cursor.id for message in page.messages if not message.text]
        kinds = kinds_of(db, silent)
        overview = count_overview(db) if plain else None
    filters = set(MessageFilter.model_fields)
    given = query.model_dump(by_alias=True, exclude_none=True, include=filters)
    return render_inbox(
        "list.html",
        page=page,
        kinds=kinds,
        newest_id=newest,
        overview=overview,
        query=query,
        given=given,
        linked=given if query.order == "arrival" else {**given, "order": query.order},
        is_long=_is_long,
        mark=mark_hits,
        draw=draw,
    )


@bp.get("/inbox/new")
def count_new_messages() -> Response:
    """Respond with how many matching messages arrived after the row `above`: 100 at most."""
    return jsonify(new=count_new(get_db(), parse_query(ArrivalsQuery, request.args)))


@bp.get("/inbox/messages/<int:row_id>")
def show_message(row_id: int) -> Response:
    """Respond with one message, as it is stored."""
    message = find_message(get_db(), row_id) if row_id <= MAX_INTEGER else None
    if message is None:
        raise NotFound("There is no such message, or it was removed.")
    json = dumps(message.as_json(), ensure_ascii=False, indent=2)
    content = message.content
    payload = dumps(content, ensure_ascii=False, indent=2) if content else None
    kind = describe_kind(message.kind, content)
    return render_inbox("message.html", message=message, json=json, payload=payload, kind=kind)


@bp.get("/inbox/consumers")
def show_consumers() -> Response:
    """Respond with the named consumers, and how far each is behind."""
    db = get_db()
    consumers = [(one, lag_of(db, one)) for one in list_consumers(db)]
    return render_inbox("consumers.html", consumers=consumers)


@bp.get("/inbox/login")
def show_login() -> Response | AnyResponse:
    """Respond with the form that asks for the token."""
    if may_read():
        return redirect(_next_page(request.args.get("next", "")), 303)
    return render_inbox("login.html", next=request.args.get("next", ""), is_wrong=False)


@bp.post("/inbox/login")
def log_in() -> Response | AnyResponse:
    """Begin a session, if the token is right. A wrong one takes a second; no thread waits.

    Raises:
        RequestRefused: 503, the session cannot be kept.
    """
    token = current_read_token()
    wanted = request.form.get("next", "")
    if token and not is_read_token(token, request.form.get("token", "")):
        execution_of(request.environ).pause_s = PAUSE_S
        page = render_inbox("login.html", next=wanted, is_wrong=True)
        page.status_code = HTTPStatus.UNAUTHORIZED
        page.www_authenticate = CHALLENGE
        return page
    response = redirect(_next_page(wanted), 303)
    if token:
        try:
            cookie = current_sessions().begin(time.time())
        except OSError as error:
            raise Unavailable(f"the session cannot begin: {error.strerror}") from error
        _set_cookie(response, cookie, SESSION_S)
    return response


@bp.post("/inbox/logout")
def log_out() -> AnyResponse:
    """End the session: its cookie is worth nothing from now on.

    Raises:
        RequestRefused: 503, it cannot be ended.
    """
    try:
        current_sessions().end(request.cookies.get(COOKIE, ""))
    except OSError as error:
        raise Unavailable(f"the session cannot be ended: {error.strerror}") from error
    response = redirect(url_for("inbox.show_login"), 303)
    # Chromium keeps a page for the way back, also with `no-store`, until an HttpOnly cookie
    # changes. It does not count the change that came with the page, which was the login. So one
    # more change is not enough: deleting the cookie counts as one, overwriting it as two.
    _set_cookie(response, "", 1)
    return response


def _is_long(text: str) -> bool:
    return len(text) > _LONG_CHARS or text.count("\n") > _LONG_LINES


def _set_cookie(response: AnyResponse, value: str, max_age_s: int) -> None:
    response.set_cookie(
        COOKIE,
        value,
        max_age=max_age_s,
        path=url_for("inbox.show_inbox"),
        secure=_came_by_https(),
        httponly=True,
        samesite="Strict",
    )


def _came_by_https() -> bool:
    # A client that adds the header itself only makes its own cookie stricter.
    return request.is_secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https"


def _next_page(wanted: str) -> str:
    # Only a page of ours, never another host.
    return wanted if _OWN_PAGE.fullmatch(wanted) else url_for("inbox.show_inbox")
