"""What of Flask is set or replaced for this service."""

from typing import Any

import pytest
from flask import Flask
from werkzeug.test import create_environ

from tests.builders import a_message
from tests.conftest import Api
from webhook_api.web.json_provider import JSONAnswer


def test_an_upgrade_to_a_websocket_is_ignored(api: Api) -> None:
    """RFC 9110, 7.8: a server may ignore it. Flask itself answers 400."""
    asked = {"Connection": "keep-alive, Upgrade", "Upgrade": "websocket"}

    assert api.client.get("/health/live", headers=asked).json == {"status": "alive"}


@pytest.mark.parametrize(("number", "status"), [("1", 200), ("١", 404), ("１", 404), ("-1", 404)])
def test_a_number_in_a_path_is_ascii(api: Api, number: str, status: int) -> None:
    api.post(a_message())

    assert api.client.get(f"/inbox/messages/{number}").status_code == status


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
