"""Sample deliveries in the shape of each provider, signed as it signs them."""

import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

from webhook_api.cli.samples import sample_bodies
from webhook_api.config import Config, ConfigError
from webhook_api.providers import meta, standard, twilio


class SampleDelivery(NamedTuple):
    """What to POST."""

    headers: dict[str, str]
    body: bytes


def samples_as(provider: str, config: Config, count: int) -> Iterator[SampleDelivery]:
    """Return `count` deliveries of a message each, as `provider` would make them.

    Raises:
        ConfigError: the provider's secret is not set.
    """
    make, setting, value = {
        meta.NAME: (_as_meta, "META_APP_SECRET", config.meta_app_secret),
        twilio.NAME: (_as_twilio, "TWILIO_AUTH_TOKEN", config.twilio_auth_token),
        standard.NAME: (
            _as_standard, "STANDARD_WEBHOOKS_SECRET", config.standard_webhooks_keys,
        ),
    }[provider]  # fmt: skip
    if not value:
        raise ConfigError(f"{setting} is not set")
    return (make(config, json.loads(body)) for body in sample_bodies(count))


def _as_meta(config: Config, message: dict[str, Any]) -> SampleDelivery:
    sent = {
        "from": message["from"].removeprefix("+"),
        "id": message["message_id"].replace("sample-", "wamid.sample-"),
        "timestamp": str(int(datetime.fromisoformat(message["ts"]).timestamp())),
    }
    if message["text"] is None:
        sent |= {"type": "sticker", "sticker": {"id": "1"}}
    else:
        sent |= {"type": "text", "text": {"body": message["text"]}}
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": message["to"].removeprefix("+")},
        "messages": [sent],
    }
    entry = {"id": "102290129340398", "changes": [{"field": "messages", "value": value}]}
    body = json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()
    return SampleDelivery(meta.sign_delivery(config.meta_app_secret, body), body)


def _as_twilio(config: Config, message: dict[str, Any]) -> SampleDelivery:
    fields = {
        "MessageSid": message["message_id"].replace("sample-", "SM").replace("-", ""),
        "From": f"whatsapp:{message['from']}",
        "To": f"whatsapp:{message['to']}",
        "Body": message["text"] or "",
        "NumMedia": "0",
    }
    body = urlencode(fields).encode()
    url = f"{config.public_url}/webhook/{twilio.NAME}"
    return SampleDelivery(twilio.sign_delivery(config.twilio_auth_token, url, body), body)


def _as_standard(config: Config, message: dict[str, Any]) -> SampleDelivery:
    body = json.dumps(
        {"type": "message.received", "timestamp": message["ts"], "data": message}
    ).encode()
    webhook_id = message["message_id"].replace("sample-", "msg_")
    key = config.standard_webhooks_keys[0]
    headers = standard.sign_delivery(key, webhook_id, int(time.time()), body)
    return SampleDelivery({"Content-Type": "application/json", **headers}, body)
