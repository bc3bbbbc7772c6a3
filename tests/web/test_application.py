"""What of Flask is set or replaced for this service."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.builders import a_message
from tests.conftest import Post


def test_an_upgrade_to_a_websocket_is_ignored(client: FlaskClient) -> None:
    """RFC 9110, 7.8: a server may ignore it. Flask itself answers 400."""
    asked = {"Connection": "keep-alive, Upgrade", "Upgrade": "websocket"}

    assert client.get("/health/live", headers=asked).json == {"status": "alive"}


@pytest.mark.parametrize(("number", "status"), [("1", 200), ("١", 404), ("１", 404), ("-1", 404)])
def test_a_number_in_a_path_is_ascii(
    client: FlaskClient, post_signed: Post, number: str, status: int
) -> None:
    post_signed(a_message())

    assert client.get(f"/inbox/messages/{number}").status_code == status


def test_there_is_no_session(app: Flask) -> None:
    from flask import session

    with app.test_request_context(), pytest.raises(RuntimeError, match="no secret key"):
        session["a"] = 1
