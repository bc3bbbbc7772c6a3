"""Deliveries in the format and with the signature of each provider."""

import json
import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

from webhook_api.cli.samples import standard_kinds, twilio_kinds, whatsapp_kinds
from webhook_api.config import Config, ConfigError
from webhook_api.intake.signature import SIGNATURE_HEADER, sign
from webhook_api.providers import meta, standard, twilio


class SignedDelivery(NamedTuple):
    """The headers and the body to POST."""

    headers: dict[str, str]
    body: bytes


Format = Callable[[bytes], SignedDelivery]

OF_THE_SPECIFICATION = "specification"


def format_of(provider: str, config: Config) -> Format:
    """Return a function that turns a body of POST /webhook into a delivery of `provider`.

    Raises:
        ConfigError: the provider's secret is not set.
    """
    if provider == OF_THE_SPECIFICATION:
        return lambda body: _as_specified(config, body)
    make, setting, value = {
        meta.NAME: (_as_meta, "META_APP_SECRET", config.meta_app_secrets),
        twilio.NAME: (_as_twilio, "TWILIO_AUTH_TOKEN", config.twilio_auth_tokens),
        standard.NAME: (
            _as_standard, "STANDARD_WEBHOOKS_SECRET", config.standard_webhooks_keys,
        ),
    }[provider]  # fmt: skip
    if not value:
        raise ConfigError(f"{setting} is not set")
    return lambda body: make(config, json.loads(body))


def _draw(
    message: dict[str, Any], kinds: Callable[[dict[str, Any]], list[dict[str, Any]]]
) -> dict[str, Any]:
    """Return one of the kinds of a provider for a sample, the first for any other message."""
    of_sample = message["message_id"].startswith("sample-")
    made = kinds(message)
    return random.choice(made) if of_sample else made[0]  # noqa: S311 - for nothing secret


def _as_specified(config: Config, body: bytes) -> SignedDelivery:
    signature = sign(config.webhook_secret, body)
    return SignedDelivery({"Content-Type": "application/json", SIGNATURE_HEADER: signature}, body)


def _as_meta(config: Config, message: dict[str, Any]) -> SignedDelivery:
    sent = {
        "from": message["from"].removeprefix("+"),
        "id": message["message_id"].replace("sample-", "wamid.sample-"),
        "timestamp": str(int(datetime.fromisoformat(message["ts"]).timestamp())),
    }
    sent |= _draw(message, whatsapp_kinds)
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": message["to"].removeprefix("+")},
        "messages": [sent],
    }
    entry = {"id": "102290129340398", "changes": [{"field": "messages", "value": value}]}
    body = json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()
    return SignedDelivery(meta.sign_delivery(config.meta_app_secrets[0], body), body)


def _as_twilio(config: Config, message: dict[str, Any]) -> SignedDelivery:
    fields = {
        "MessageSid": message["message_id"].replace("sample-", "SM").replace("-", ""),
        "From": f"whatsapp:{message['from']}",
        "To": f"whatsapp:{message['to']}",
        "SmsStatus": "received",
        "Body": "",
        "NumMedia": "0",
    }
    fields |= _draw(message, twilio_kinds)
    body = urlencode(fields).encode()
    url = f"{config.public_url}/webhook/{twilio.NAME}"
    return SignedDelivery(twilio.sign_delivery(config.twilio_auth_tokens[0], url, body), body)


def _as_standard(config: Config, message: dict[str, Any]) -> SignedDelivery:
    body = json.dumps(_draw(message, standard_kinds)).encode()
    webhook_id = message["message_id"].replace("sample-", "msg_")
    key = config.standard_webhooks_keys[0].key
    headers = standard.sign_delivery(key, webhook_id, int(time.time()), body)
    return SignedDelivery({"Content-Type": "application/json", **headers}, body)
