"""What we leave out of Flask makes no difference to a request."""

from typing import Any

import pytest
from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.test import create_environ

from webhook_api.web.application import Application
from webhook_api.web.json_provider import JSONAnswer

REQUESTS: list[dict[str, Any]] = [
    {"path": "/messages"},
    {"path": "/messages", "query_string": "q=%C3%A9&from=+91"},
    {"path": "//messages/é"},
    {"path": "", "base_url": "https://example.org:443/below"},
    {"base_url": "http://example.org:80", "method": "POST"},
    {"headers": {"Host": "EXAMPLE.org:8000"}},
    {"headers": {"Host": "[::1]:8000"}},
    {"headers": {"Host": "a b"}},
    {"headers": {"Host": "a..b"}},
    {"headers": {"Host": ""}},
    {"environ_overrides": {"HTTP_HOST": None}},
    {"environ_overrides": {"QUERY_STRING": "q=\xff\xc3\xa9"}},
]


def adapter(app: Flask, environ: dict[str, Any]) -> object:
    """Return what `app` binds its routes with, or how that failed."""
    try:
        request = app.request_class(dict(environ))
        bound = app.create_url_adapter(request)
    except HTTPException as error:
        return type(error), error.code
    return request.host, {name: value for name, value in vars(bound).items() if name != "map"}


@pytest.mark.parametrize("asked", REQUESTS, ids=repr)
def test_routes_are_bound_as_flask_binds_them(asked: dict[str, Any]) -> None:
    environ = create_environ(**asked)
    if environ["HTTP_HOST"] is None:
        del environ["HTTP_HOST"]

    assert adapter(Application("ours"), environ) == adapter(Flask("theirs"), environ)


@pytest.mark.parametrize("server_name", [None, "example.org"])
def test_routes_are_bound_the_same_without_a_request(server_name: str | None) -> None:
    ours, theirs = Application("ours"), Flask("theirs")
    ours.config["SERVER_NAME"] = theirs.config["SERVER_NAME"] = server_name

    mine, other = ours.create_url_adapter(None), theirs.create_url_adapter(None)

    assert (mine is None) == (other is None) == (server_name is None)


@pytest.mark.parametrize("status", [200, 401, 404, 503])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_json_reply_is_sent_as_werkzeug_would(method: str, status: int) -> None:
    reply = JSONAnswer(b'{"a":1}\n')
    reply.status_code = status
    reply.headers["Retry-After"] = "2"
    environ = create_environ(method=method)
    sent: list[Any] = []

    body = b"".join(reply(environ, lambda *start: sent.extend(start)))  # type: ignore[arg-type]

    parts, *head = reply.get_wsgi_response(environ)
    assert sent == head
    assert body == b"".join(parts)


def test_there_is_no_session(app: Flask) -> None:
    from flask import session

    with app.test_request_context(), pytest.raises(RuntimeError, match="no secret key"):
        session["a"] = 1
