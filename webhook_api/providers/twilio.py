"""Twilio Messaging: what Twilio delivers to /webhook/twilio.

Source: twilio.com/docs, "Secure webhooks" and "Twilio's request to your incoming message Webhook
URL"; for repeated names and for ports, the official libraries (`RequestValidator`).
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qs, parse_qsl

from webhook_api.errors import InvalidSignature
from webhook_api.models import parse_json
from webhook_api.providers.delivery import Delivery, as_number, not_of_the_provider, prefixed
from webhook_api.server_time import now_as_text

NAME = "twilio"
SIGNATURE_HEADER = "X-Twilio-Signature"
EMPTY_TWIML = '<?xml version="1.0" encoding="UTF-8"?><Response/>'

_MAX_FIELDS = 1000
_PORT = re.compile(r"(https?)(://(?:\[[^]]*\]|[^:/?#]*))(:[0-9]+)?(.*)", re.DOTALL)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def sign_delivery(auth_token: str, url: str, body: bytes) -> dict[str, str]:
    """Return the headers that Twilio would send with the form `body` to `url`."""
    return {
        "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
        SIGNATURE_HEADER: _signature(auth_token, url, _fields(body)),
    }


def read_delivery(headers: Mapping[str, str], body: bytes, url: str, auth_token: str) -> Delivery:
    """Return what `body` holds. `url` is the public URL that it came to, with its query.

    The names of `headers` are in lower case. Twilio does not say when a message was sent: `ts`
    is the time of its arrival.

    Raises:
        InvalidSignature: Twilio did not sign it with our account's token.
        InvalidInput: it is not about a message.
    """
    _, _, query = url.partition("?")
    digests = parse_qs(query).get("bodySHA256")
    fields = [] if digests else _fields(body)
    supplied = headers.get(SIGNATURE_HEADER.lower(), "")
    genuine = _is_signed(auth_token, url, fields, supplied)
    if digests:
        # Then the body is JSON, and the signed URL has its digest.
        intact = _equal(hashlib.sha256(body).hexdigest(), digests[0].lower())
        genuine = genuine and intact
    if not genuine:
        raise InvalidSignature
    return _read_fields(parse_json(body) if digests else dict(fields))


def _read_fields(fields: object) -> Delivery:
    if not isinstance(fields, dict):
        raise not_of_the_provider("Input should be an object")
    message_id = fields.get("MessageSid") or fields.get("SmsMessageSid") or fields.get("SmsSid")
    if not (isinstance(message_id, str) and "From" in fields and "To" in fields):
        raise not_of_the_provider("Input should have MessageSid, From and To")
    delivery = Delivery(has_own_time=False)
    # A MessageStatus means: this is about a message that was sent through Twilio.
    if "MessageStatus" in fields and fields["MessageStatus"] not in ("receiving", "received"):
        delivery.add_status(fields["MessageStatus"])
        return delivery
    delivery.add_message(
        message_id=prefixed(NAME, message_id),
        sender=_number(fields["From"]),
        receiver=_number(fields["To"]),
        ts=now_as_text(),
        text=fields.get("Body") or None,
    )
    return delivery


def _number(value: object) -> object:
    return as_number(value.removeprefix("whatsapp:") if isinstance(value, str) else value)


def _fields(body: bytes) -> list[tuple[str, str]]:
    """Return the names and values of a form, also empty ones.

    Raises:
        InvalidSignature: there are more than Twilio would ever sign.
    """
    text = body.decode(errors="replace")
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise InvalidSignature from None


def _is_signed(auth_token: str, url: str, fields: Iterable[tuple[str, str]], supplied: str) -> bool:
    """Return whether `supplied` is the signature for `url`, with its port or without.

    Which of both Twilio signs depends on the scheme and the product.
    """
    bare, with_port = (_signature(auth_token, form, fields) for form in _forms(url))
    is_bare, has_port = _equal(bare, supplied), _equal(with_port, supplied)
    return is_bare or has_port


def _forms(url: str) -> tuple[str, str]:
    match = _PORT.fullmatch(url)
    if match is None:
        return url, url
    scheme, host, port, rest = match.groups()
    return f"{scheme}{host}{rest}", f"{scheme}{host}{port or _DEFAULT_PORTS[scheme]}{rest}"


def _signature(auth_token: str, url: str, fields: Iterable[tuple[str, str]]) -> str:
    # A repeated pair counts once; values of the same name are sorted as well.
    signed = url + "".join(name + value for name, value in sorted(set(fields)))
    key = auth_token.encode(errors="surrogateescape")
    return base64.b64encode(hmac.digest(key, signed.encode(), "sha1")).decode()


def _equal(expected: str, supplied: str) -> bool:
    return hmac.compare_digest(expected.encode(), supplied.encode(errors="replace"))
