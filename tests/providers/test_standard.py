"""POST /webhook/standard: where the message is in a body."""

from tests.builders import a_message, encode
from tests.conftest import Rows
from tests.providers.conftest import Deliver


def test_a_standard_message_is_the_data_or_the_body(deliver: Deliver, rows: Rows) -> None:
    flat = encode(a_message(message_id="flat", data="is no object"))
    nameless = encode({key: value for key, value in a_message().items() if key != "message_id"})

    for body in (flat, nameless, nameless):
        assert deliver("standard", body, webhook_id="msg_7").status_code == 200

    assert rows("SELECT message_id FROM messages") == [("standard:flat",), ("standard:msg_7",)]
