"""POST /webhook/standard: where the message is in a body, and whose it is."""

import base64
import time
from pathlib import Path

from tests.builders import a_message, an_app, encode
from tests.conftest import Rows
from tests.providers.conftest import Deliver
from tests.providers.samples import WHSEC, a_config, from_standard
from webhook_api import close_app
from webhook_api.providers import standard


def test_a_standard_message_is_the_data_or_the_body(deliver: Deliver, rows: Rows) -> None:
    flat = encode(a_message(message_id="flat", data="is no object"))
    nameless = encode({key: value for key, value in a_message().items() if key != "message_id"})

    for body in (flat, nameless, nameless):
        assert deliver("standard", body, webhook_id="msg_7").status_code == 200

    assert rows("SELECT message_id FROM messages") == [("standard:flat",), ("standard:msg_7",)]


KEYS = {"shop": b"key of a shop", "old-shop": b"its key before", "bank": b"key of a bank"}


def named(name: str, key: bytes) -> str:
    return f"{name}=whsec_{base64.b64encode(key).decode()}"


def test_an_id_belongs_to_the_sender_whose_name_its_secret_has(tmp_path: Path, rows: Rows) -> None:
    secrets = [
        named("shop", KEYS["shop"]), named("shop", KEYS["old-shop"]), WHSEC,
        named("bank", KEYS["bank"]),
    ]  # fmt: skip
    app = an_app(a_config(tmp_path, STANDARD_WEBHOOKS_SECRET=" ".join(secrets)))
    unnamed = base64.b64decode(WHSEC.removeprefix("whsec_"))
    body = from_standard(message_id="1")
    for key in (unnamed, *KEYS.values(), unnamed):
        headers = standard.sign_delivery(key, "msg_1", int(time.time()), body)
        sent = {**headers, "Webhook-Sender": "bank"}  # which is not signed
        assert (
            app.test_client().post("/webhook/standard", data=body, headers=sent).status_code == 200
        )
    metrics = app.test_client().get("/metrics").text
    close_app(app)

    stored = rows("SELECT message_id, provider FROM messages ORDER BY id")

    assert stored == [
        ("standard:1", "standard"),
        ("standard/shop:1", "standard"),
        ("standard/bank:1", "standard"),
    ]
    # A secret is an older one only beside another of the same name.
    series = 'webhook_signatures_total{key="previous",provider="standard"} 1.0'
    assert series in metrics
