"""GET /messages/{message_id}: one message with all that is kept of it."""

from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from tests.builders import a_message
from tests.conftest import Api
from tests.serving import Server, serving
from webhook_api.store.messages import remove_messages

IDS = [
    "m1", "a/b", "/a", "a//b/", "..", "a/../b", "?q=1#x", "%2F", " ", "+", "é😀", "\u202e",
    "a\nb", "a\x00b", "x" * 512, "new", "meta:wamid.HBgL==",
]  # fmt: skip


def whole(client: FlaskClient, message_id: str) -> Any:
    return client.get("/messages/" + quote(message_id, safe="")).json


@pytest.mark.parametrize("message_id", IDS, ids=ascii)
def test_any_id_is_found(api: Api, message_id: str) -> None:
    api.post(a_message(message_id=message_id))

    found = whole(api.client, message_id)

    received_at = found.pop("received_at")
    assert received_at.endswith("Z")
    more = {"provider": "webhook", "kind": "text", "payload": None}
    assert found == a_message(message_id=message_id) | more


def test_without_a_text_there_is_no_kind(api: Api) -> None:
    api.post(a_message(text=None))

    assert whole(api.client, "m1")["kind"] is None


def test_an_unknown_message_is_404_and_a_removed_one_410(api: Api) -> None:
    api.store(a_message())
    assert api.client.get("/messages/m2").status_code == 404

    remove_messages(api.writer, [1])

    gone = api.client.get("/messages/m1")
    assert (gone.status_code, gone.json) == (410, {"detail": "the message was removed"})
    assert api.client.get("/messages/m2").status_code == 404


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


def test_the_server_hands_every_id_over_unchanged(server: Server) -> None:
    with server.client() as client:
        for message_id in IDS:
            assert client.deliver(message_id=message_id).status == 200
            path = "/messages/" + quote(message_id, safe="")
            assert client.request("GET", path).json["message_id"] == message_id
