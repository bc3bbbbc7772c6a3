"""Twilio Messaging: what Twilio delivers to /webhook/twilio.

Source: twilio.com/docs, "Secure webhooks" and "Twilio's request to your incoming message Webhook
URL"; for repeated names and for ports, the official libraries (`RequestValidator`).
"""

import base64
import codecs
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import parse_qs, parse_qsl

from webhook_api.errors import BodyTooLarge
from webhook_api.intake.signature import which_secret
from webhook_api.models import parse_json
from webhook_api.outcome import SignedBy
from webhook_api.providers.delivery import (
    NO_OBJECT,
    STATUSES,
    Delivery,
    UnreadableError,
    address,
    rfc_2822_as_ts,
)
from webhook_api.providers.texts import as_object, contains

NAME = "twilio"
SIGNATURE_HEADER = "X-Twilio-Signature"
EVENTS = ("READ", "DELIVERED", "TYPING")  # what an EventType says
EMPTY_TWIML = '<?xml version="1.0" encoding="UTF-8"?><Response/>'

_RECEIVED = {"received", "receiving"}
# Fields of which a message from a user has at least one.
_CONTENT = (
    "Body", "MediaUrl0", "Media", "ButtonText", "ButtonPayload", "ListTitle", "ListId", "FlowData",
    "InteractiveData", "Latitude", "Contacts",
)  # fmt: skip
_NO_MEDIA = (None, "", "0", 0)
_ADDED = "onMessageAdded"  # the event of Conversations that is a new message
_OUR_SOURCES = ("API", "SDK")  # of a message in a conversation
_OTHER_FORMAT = "a message in another format"
_MAX_FIELDS = 10_000  # to hash, before it is known who sent them
_PORT = re.compile(r"(https?)(://(?:\[[^]]*\]|[^:/?#]*))(:[0-9]+)?(.*)", re.DOTALL)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def sign_delivery(auth_token: str, url: str, body: bytes) -> dict[str, str]:
    """Return the headers that Twilio would send with the form `body` to `url`."""
    return {
        "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
        SIGNATURE_HEADER: _signature(auth_token, url, _fields(body)),
    }


def verify(
    tokens: Sequence[str], headers: Mapping[str, str], body: bytes, url: str
) -> tuple[SignedBy, str]:
    """Return which of our account's tokens Twilio signed `body` with; a token has no name.

    `url` is the public URL that it came to, with its query. The names of `headers` are in lower
    case.

    Raises:
        InvalidSignature: with none.
        BodyTooLarge: the form has more fields than can be checked.
    """
    _, _, query = url.partition("?")
    digests = parse_qs(query).get("bodySHA256")
    fields = [] if digests else _fields(body)
    supplied = headers.get(SIGNATURE_HEADER.lower(), "")
    # Then the body is JSON, and the signed URL has its digest.
    intact = not digests or _equal(hashlib.sha256(body).hexdigest(), digests[0].lower())
    found = [_is_signed(token, url, fields, supplied) and intact for token in tokens]
    return which_secret(found), ""


def parse(
    headers: Mapping[str, str], body: bytes, arrived: str, _max_messages: int | None = None
) -> Delivery:
    """Return what `body`, a form or JSON, holds: one message, or word of one that was sent.

    Twilio does not say when a message was sent: `ts` is the time of its arrival.

    Raises:
        InvalidInput, UnreadableError: it is neither.
    """
    start = body.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    is_json = start in (b"{", b"[") or "json" in headers.get("content-type", "").lower()
    pairs = [] if is_json else _fields(body)
    fields = parse_json(body) if is_json else dict(pairs)
    delivery = Delivery(NAME, arrived)
    if isinstance(fields, list) and fields:
        for one in fields:
            _count_streamed(delivery, one)
        return delivery
    if not isinstance(fields, dict):
        raise UnreadableError(NO_OBJECT)
    is_message = _is_inbound(fields)
    event = fields.get("EventType")
    if is_message and event not in (None, "", _ADDED):
        raise UnreadableError("a message in another event")
    if is_message:
        ids = (fields.get(name) for name in ("MessageSid", "SmsMessageSid", "SmsSid"))
        delivery.add_message(
            fields,
            message_id=next(filter(None, ids), None),
            sender=address(
                [fields.get("From"), fields.get("Author")], [fields.get("ExternalUserId")]
            ),
            receiver=address(
                [fields.get("To")],
                [fields.get("MessagingServiceSid"), fields.get("ConversationSid")],
            ),
            ts=None,
            kind=_kind(fields),
            payload=_with_repeated(fields, pairs),
        )
        return delivery
    if is_json and fields.get("type"):
        _count_streamed(delivery, fields)
        return delivery
    if is_json and _has_message_elsewhere(fields):
        raise UnreadableError(_OTHER_FORMAT)
    status = fields.get("MessageStatus") or fields.get("SmsStatus")
    if status:
        delivery.add_status(status)
    if event or not status:
        delivery.add_event(event)
    delivery.add_error(fields.get("ErrorCode") or None)
    return delivery


def parse_listed(listed: Iterable[object], arrived: str) -> Delivery:
    """Return the messages from users in Twilio's list, with the ids that the webhook gives them.

    Here Twilio says when one was sent. Files are not in it, but a link to their list.
    """
    delivery = Delivery(NAME, arrived)
    for one in listed:
        if not isinstance(one, dict):
            delivery.unstorable[NO_OBJECT] += 1
        elif one.get("direction") == "inbound":
            delivery.add_message(
                {"Body": one.get("body")},
                message_id=one.get("sid"),
                sender=address([one.get("from")]),
                receiver=address([one.get("to")], [one.get("messaging_service_sid")]),
                ts=rfc_2822_as_ts(one.get("date_sent") or one.get("date_created")),
                kind="text" if one.get("body") else None,
                payload=one,
            )
    return delivery


def _is_inbound(fields: Mapping[str, object]) -> bool:
    """Whether these fields are those of a message from a user.

    What a user sends is `received` or `receiving`, or has content and no status. A receipt of a
    message that was sent has other statuses, or an event such as READ. In a conversation, what we
    sent has its source.
    """
    values = (fields.get(name) for name in ("SmsStatus", "MessageStatus"))
    said = {value.strip().lower() for value in values if isinstance(value, str)} - {""}
    is_ours = fields.get("EventType") in EVENTS or fields.get("Source") in _OUR_SOURCES
    if is_ours or said & {*STATUSES}:
        return False
    has_content = any(name in fields for name in _CONTENT)
    return bool(said & _RECEIVED) or has_content or fields.get("NumMedia") not in _NO_MEDIA


def _count_streamed(delivery: Delivery, event: object) -> None:
    """Count an event of Event Streams, which come in lists.

    Raises:
        UnreadableError: it is no object, or has a message.
    """
    if not isinstance(event, dict):
        raise UnreadableError(NO_OBJECT)
    if _is_inbound(event) or _has_message_elsewhere(event):
        raise UnreadableError(_OTHER_FORMAT)
    delivery.add_event(event.get("type"))
    delivery.add_error(as_object(event.get("data")).get("errorCode") or None)


def _has_message_elsewhere(fields: Mapping[str, object]) -> bool:
    """Whether JSON has a message in another format, as that of Event Streams."""
    inside = contains(list(fields.values()), ("body", "Body"))
    return inside or "body" in fields or "inbound" in str(fields.get("type"))


def _with_repeated(
    fields: Mapping[str, object], pairs: Sequence[tuple[str, str]]
) -> Mapping[str, object]:
    """Return `fields`, with all values of a name that is there more than once."""
    if len(pairs) in (0, len(fields)):
        return fields
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return {name: all if all[1:] else all[0] for name, all in values.items()}


def _kind(fields: Mapping[str, object]) -> object:
    """Return what Twilio calls the kind; an SMS has no word for it, but the type of its media."""
    media_type = fields.get("MediaContentType0")
    of_media = media_type.partition("/")[0] if isinstance(media_type, str) else ""
    return fields.get("MessageType") or of_media or ("text" if fields.get("Body") else None)


def _fields(body: bytes) -> list[tuple[str, str]]:
    """Return the names and values of a form, also empty ones.

    Raises:
        BodyTooLarge: there are more than Twilio would ever sign.
    """
    text = body.decode(errors="replace")
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise BodyTooLarge(f"the form has more than {_MAX_FIELDS} fields") from None


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
