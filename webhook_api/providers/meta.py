"""WhatsApp Cloud API: what Meta delivers to /webhook/meta.

Source: developers.facebook.com, "Webhooks: Getting Started" (handshake, signature, batches), and
WhatsApp Business Platform, "Webhooks reference" (fields, and the kinds of messages).
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from webhook_api.intake.signature import is_signature, sign, which_key
from webhook_api.models import parse_json
from webhook_api.outcome import Key
from webhook_api.providers.addresses import UNKNOWN, address
from webhook_api.providers.delivery import (
    MAX_MESSAGES,
    NO_OBJECT,
    OTHER,
    Delivery,
    UnreadableError,
)
from webhook_api.providers.texts import as_json, as_list, as_object
from webhook_api.providers.times import as_ts

NAME = "meta"
SIGNATURE_HEADER = "X-Hub-Signature-256"
MAX_BODY_BYTES = 3 * 1024 * 1024
# The fields of a WhatsApp Business account besides `messages`, and other objects of Meta.
EVENTS = (
    "account_alerts", "account_review_update", "account_settings_update", "account_update",
    "automatic_events", "business_capability_update", "business_status_update", "calls", "flows",
    "group_lifecycle_update", "group_participants_update", "group_settings_update",
    "group_status_update", "history", "history.own", "message_echoes",
    "message_template_components_update",
    "message_template_quality_update", "message_template_status_update", "messaging_handovers",
    "partner_solutions", "payment_configuration_update", "phone_number_name_update",
    "phone_number_quality_update", "security", "smb_app_state_sync", "smb_message_echoes",
    "standby", "template_category_update", "tracking_events", "user_id_update",
    "user_preferences", "instagram", "page", "permissions", "user",
)  # fmt: skip

_ACCOUNT = "whatsapp_business_account"
_MESSAGES = "messages"
_HISTORY = "history"
# A thousand messages have a tenth of this. With many more, even to parse it takes long.
_MAX_PARTS = 250_000  # objects, lists and their members
_MAX_CONTACT_CHARS = 16 * 1024


@dataclass(frozen=True)
class _Place:
    """Where a list of messages is."""

    value: Mapping[str, object] = field(default_factory=dict)  # with the metadata and contacts
    name: str = ""  # of the field
    account: object = None
    user: object = None  # of the thread


def sign_delivery(app_secret: str, body: bytes) -> dict[str, str]:
    """Return the headers that Meta would send with `body`."""
    return {SIGNATURE_HEADER: f"sha256={sign(app_secret, body)}"}


def verify(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, _url: str) -> Key:
    """Return which of our app's secrets Meta signed `body` with.

    The names of `headers` are in lower case.

    Raises:
        InvalidSignature: with none.
    """
    supplied = headers.get(SIGNATURE_HEADER.lower(), "")
    return which_key([is_signature(supplied, secret, body) for secret in secrets])


def parse(
    _headers: Mapping[str, str], body: bytes, arrived: str, most: int | None = MAX_MESSAGES
) -> Delivery:
    """Return what `body` holds. Without `most` it may be of any size.

    Every object in a list `messages` is a message, wherever the list is: in the field of this
    name, or in the threads of a history. The business' own part of a history is not stored.

    Raises:
        InvalidInput: it is not JSON.
        UnreadableError: it is no object, or has more than `most` messages.
    """
    if most and body.count(b"{") + body.count(b"[") + body.count(b",") > _MAX_PARTS:
        raise UnreadableError(f"more than {_MAX_PARTS:,} parts")
    payload = parse_json(body)
    if not isinstance(payload, dict):
        raise UnreadableError(NO_OBJECT)
    delivery = Delivery()
    found: list[tuple[list[object], _Place]] = []
    _walk(payload, _Place(), delivery, found)
    if most and sum(len(messages) for messages, _ in found) > most:
        raise UnreadableError(f"more than {most:,} messages")
    for messages, place in found:
        contacts = _contacts(place.value, alone=len(messages) == 1)
        for message in messages:
            _add(delivery, message, place, contacts, arrived)
    _add_events(delivery, payload)
    return delivery


def answer_handshake(arguments: Mapping[str, str], verify_token: str) -> str | None:
    """Return the challenge of a verification request; None if its token is wrong."""
    supplied = arguments.get("hub.verify_token", "").encode(errors="replace")
    known = hmac.compare_digest(supplied, verify_token.encode(errors="surrogateescape"))
    if known and arguments.get("hub.mode") == "subscribe":
        return arguments.get("hub.challenge")
    return None


def _walk(
    node: object, place: _Place, delivery: Delivery, found: list[tuple[list[object], _Place]]
) -> None:
    """Collect all lists of messages; count statuses and errors."""
    if isinstance(node, list):
        for member in node:
            _walk(member, place, delivery, found)
    if not isinstance(node, dict):
        return
    if isinstance(node.get("changes"), list):
        place = replace(place, account=node.get("id"))
    if isinstance(node.get("field"), str):
        place = replace(place, name=node["field"])
    if "metadata" in node and "phase" not in as_object(node["metadata"]):
        place = replace(place, value=node)
    if isinstance(node.get(_MESSAGES), list):
        user = node.get("id") if place.name == _HISTORY else None
        value = place.value or node
        found.append((node[_MESSAGES], replace(place, user=user, value=value)))
    for status in as_list(node.get("statuses")):
        delivery.add_status(as_object(status).get("status"))
    for error in as_list(node.get("errors")):
        delivery.add_error(as_object(error).get("code"))
    for member in node.values():
        if isinstance(member, dict | list):
            _walk(member, place, delivery, found)


def _add_events(delivery: Delivery, payload: Mapping[str, object]) -> None:
    """Count each field but `messages`, with the word for what happened, and other objects."""
    if payload.get("object") != _ACCOUNT:
        delivery.add_event(payload.get("object"))
    for entry in as_list(payload.get("entry")):
        for change in map(as_object, as_list(as_object(entry).get("changes"))):
            if change.get("field") != _MESSAGES:
                event = as_object(change.get("value")).get("event")
                name = change.get("field")
                both = isinstance(name, str) and isinstance(event, str)
                delivery.add_event(f"{name}.{event}" if both else name)
    if not (delivery.messages or delivery.unstorable or delivery.statuses or delivery.events):
        delivery.add_event(OTHER)


def _contacts(value: Mapping[str, object], *, alone: bool) -> dict[object, Mapping[str, object]]:
    """Return the contacts by each of their ids; that of a message that is `alone` also as None.

    One that is very long is left out: it would be kept with each message.
    """
    contacts = [as_object(contact) for contact in as_list(value.get("contacts"))]
    contacts = [one for one in contacts if one and len(as_json(one)) <= _MAX_CONTACT_CHARS]
    by_id: dict[object, Mapping[str, object]] = {
        contact[name]: contact
        for contact in contacts
        for name in ("wa_id", "user_id")
        if isinstance(contact.get(name), str)
    }
    return {None: contacts[0], **by_id} if alone and len(contacts) == 1 else by_id


def _add(
    delivery: Delivery,
    message: object,
    place: _Place,
    contacts: Mapping[object, Mapping[str, object]],
    arrived: str,
) -> None:
    if not isinstance(message, dict):
        delivery.unstorable[NO_OBJECT] += 1
        return
    number, user_id = message.get("from"), message.get("from_user_id")
    contact = next(
        (contacts[key] for key in (number, user_id, None) if _is_id(key) and key in contacts), None
    )
    known = contact or {}
    system = as_object(message.get("system"))
    sender = address(
        [number, known.get("wa_id")],
        [user_id, known.get("user_id"), message.get("from_parent_user_id"),
         *(system.get(name) for name in ("previous_user_id", "user_id", "wa_id"))],
        bare=True,
    )  # fmt: skip
    metadata = as_object(place.value.get("metadata"))
    receiver = address(
        [metadata.get("display_phone_number")],
        [metadata.get("phone_number_id"), place.account],
        bare=True,
    )
    if place.name == _HISTORY and _is_own(message, sender, receiver, place):
        delivery.add_event("history.own")
        return
    delivery.add_message(
        NAME,
        message,
        message_id=message.get("id"),
        sender=sender,
        receiver=receiver,
        ts=as_ts(message.get("timestamp")),
        arrived=arrived,
        kind=message.get("type"),
        payload={**message, "contact": contact} if contact else message,
    )


def _is_id(key: object) -> bool:
    return key is None or isinstance(key, str)


def _is_own(message: Mapping[str, object], sender: str, receiver: str, place: _Place) -> bool:
    """Whether the business wrote this part of a history."""
    user = address([place.user], bare=True)
    from_me = as_object(message.get("history_context")).get("from_me") is True
    return from_me or (sender[0] == "+" and (sender == receiver or user not in (sender, UNKNOWN)))
