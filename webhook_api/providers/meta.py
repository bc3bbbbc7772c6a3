"""WhatsApp Cloud API: what Meta delivers to /webhook/meta.

Source: developers.facebook.com, "Webhooks: Getting Started" (handshake, signature, batches), and
WhatsApp Business Platform, "Webhooks reference" (fields, and the kinds of messages).
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from webhook_api.intake.signature import is_signature, sign, which_secret
from webhook_api.models import parse_json
from webhook_api.outcome import SignedBy
from webhook_api.providers.delivery import (
    ELSEWHERE,
    MAX_MESSAGES,
    NO_OBJECT,
    OTHER,
    REPEATED,
    UNKNOWN,
    Delivery,
    UnreadableError,
    address,
    as_ts,
)
from webhook_api.providers.texts import as_json, as_list, as_object, contains

NAME = "meta"
SIGNATURE_HEADER = "X-Hub-Signature-256"
MAX_BODY_BYTES = 3 * 1024 * 1024
# The fields of a WhatsApp Business account besides `messages`, and other objects of Meta.
EVENTS = (
    "account_alerts", "account_review_update", "account_settings_update", "account_update",
    "automatic_events", "business_capability_update", "business_status_update", "calls", "flows",
    "group_lifecycle_update", "group_participants_update", "group_settings_update",
    "group_status_update", "history", "history.own", "message_echoes", "messages",
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
_IN_VALUE = {"messaging_product", "metadata", "contacts", _MESSAGES, "statuses", "errors"}
_OF_A_MESSAGE = ("id", "from", "from_user_id", "text", "body")
_MEDIA = ("image", "video", "audio", "document", "sticker")
# A parser keeps only the last of two members with one name. Quotes in a text are escaped, so that
# this finds members only.
_MEMBERS = ("entry", "changes", "value", _MESSAGES)
_MEMBER = re.compile(rb'"(?:%b)"\s*:' % "|".join(_MEMBERS).encode())
# A thousand messages have a tenth of this. With many more, even to parse it takes long.
_MAX_PARTS = 250_000  # objects, lists and their members
_MAX_CONTACT_CHARS = 16 * 1024


@dataclass(frozen=True)
class _Context:
    """Where a list of messages is."""

    value: Mapping[str, object] = field(default_factory=dict)  # with the metadata and contacts
    name: str = ""  # of the field
    account: object = None
    in_thread: bool = False


def sign_delivery(app_secret: str, body: bytes) -> dict[str, str]:
    """Return the headers that Meta would send with `body`."""
    return {SIGNATURE_HEADER: f"sha256={sign(app_secret, body)}"}


def verify(
    secrets: Sequence[str], headers: Mapping[str, str], body: bytes, _url: str
) -> tuple[SignedBy, str]:
    """Return which of our app's secrets Meta signed `body` with; a secret has no name.

    The names of `headers` are in lower case.

    Raises:
        InvalidSignature: with none.
    """
    supplied = headers.get(SIGNATURE_HEADER.lower(), "")
    return which_secret([is_signature(supplied, secret, body) for secret in secrets]), ""


def parse(
    _headers: Mapping[str, str], body: bytes, arrived: str, max_messages: int | None = MAX_MESSAGES
) -> Delivery:
    """Return what `body` holds. Without `max_messages` it may be of any size.

    Every object in a list `messages` is a message, wherever the list is: in the field of this
    name, or in the threads of a history. The business' own part of a history is not stored. What
    looks like a message and is in no such list cannot be stored.

    Raises:
        InvalidInput: it is not JSON.
        UnreadableError: it is no object, or has more than `max_messages` messages.
    """
    if max_messages and body.count(b"{") + body.count(b"[") + body.count(b",") > _MAX_PARTS:
        raise UnreadableError(f"more than {_MAX_PARTS:,} parts")
    payload = parse_json(body)
    if not isinstance(payload, dict):
        raise UnreadableError(NO_OBJECT)
    delivery = Delivery(NAME, arrived)
    found: list[tuple[list[object], _Context]] = []
    if _walk(payload, _Context(), delivery, found) < len(_MEMBER.findall(body)):
        delivery.unstorable[REPEATED] += 1
    if max_messages and sum(len(messages) for messages, _ in found) > max_messages:
        raise UnreadableError(f"more than {max_messages:,} messages")
    for messages, context in found:
        contacts = _contacts(context.value, alone=len(messages) == 1)
        for message in messages:
            _add(delivery, message, context, contacts)
    _add_events(delivery, payload)
    return delivery


def respond_to_handshake(arguments: Mapping[str, str], verify_token: str) -> str | None:
    """Return the challenge of a verification request; None if its token is wrong."""
    supplied = arguments.get("hub.verify_token", "").encode(errors="replace")
    known = hmac.compare_digest(supplied, verify_token.encode(errors="surrogateescape"))
    if known and arguments.get("hub.mode") == "subscribe":
        return arguments.get("hub.challenge")
    return None


def _walk(
    node: object,
    context: _Context,
    delivery: Delivery,
    found: list[tuple[list[object], _Context]],
) -> int:
    """Collect all lists of messages; count statuses and errors. Return how many _MEMBERS it saw."""
    if isinstance(node, list):
        return sum(_walk(member, context, delivery, found) for member in node)
    if not isinstance(node, dict):
        return 0
    if isinstance(node.get("changes"), list):
        context = replace(context, account=node.get("id"))
    if isinstance(node.get("field"), str):
        context = replace(context, name=node["field"])
    if "metadata" in node and "phase" not in as_object(node["metadata"]):
        context = replace(context, value=node)
    if "threads" in node:
        context = replace(context, in_thread=True)
    if isinstance(node.get(_MESSAGES), list):
        found.append((node[_MESSAGES], replace(context, value=context.value or node)))
    elif node.get(_MESSAGES):
        delivery.unstorable[ELSEWHERE] += 1
    for status in _all(node.get("statuses")):
        delivery.add_status(as_object(status).get("status"))
    for error in _all(node.get("errors")):
        delivery.add_error(_name_of(error))
    count = sum(name in node for name in _MEMBERS)
    for member in node.values():
        if isinstance(member, dict | list):
            count += _walk(member, context, delivery, found)
    return count


def _all(value: object) -> list[object]:
    """Return the members of a list, or the only one, which is there without a list."""
    return [value] if isinstance(value, dict) and value else as_list(value)


def _name_of(error: object) -> object:
    """Return the code of an error, else what there is to tell it by."""
    names = (as_object(error).get(name) for name in ("code", "title", "message"))
    return next((name for name in names if name not in (None, "")), "unknown")


def _add_events(delivery: Delivery, payload: Mapping[str, object]) -> None:
    """Count each change that is no message, with the word for what happened, and other objects."""
    if payload.get("object") != _ACCOUNT:
        delivery.add_event(payload.get("object"))
    for entry in map(as_object, _all(payload.get("entry"))):
        for change in map(as_object, _all(entry.get("changes"))):
            _add_change(delivery, change)
        others = [] if entry.get("changes") else list(entry.values())
        if payload.get("object") == _ACCOUNT and contains(others, _OF_A_MESSAGE):
            delivery.unstorable[ELSEWHERE] += 1
    if not (delivery.messages or delivery.unstorable or delivery.statuses or delivery.events):
        delivery.add_event(OTHER)


def _add_change(delivery: Delivery, change: Mapping[str, object]) -> None:
    """Count a change by its field, unless it has messages, statuses or errors.

    What looks like a message in a field that we do not know cannot be stored.
    """
    name, value = change.get("field"), change.get("value")
    members = as_object(value)
    others = {key: other for key, other in members.items() if key not in _IN_VALUE}
    if name == _MESSAGES:
        known = [key for key in others if key in EVENTS]
        is_taken = any(_all(members.get(key)) for key in (_MESSAGES, "statuses", "errors"))
        for key in known if known or is_taken else [_MESSAGES]:
            delivery.add_event(key)
            others.pop(key, None)
        is_lost = bool(value and not members) or contains(others, _OF_A_MESSAGE)
    else:
        event = members.get("event")
        both = isinstance(name, str) and isinstance(event, str)
        delivery.add_event(f"{name}.{event}" if both else name)
        is_lost = name not in EVENTS and contains(others if members else value, _OF_A_MESSAGE)
    # What another app has to answer, if it is in a list of this name and not in one of messages.
    if is_lost or contains(as_list(members.get("standby")), _OF_A_MESSAGE):
        delivery.unstorable[ELSEWHERE] += 1


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
    context: _Context,
    contacts: Mapping[object, Mapping[str, object]],
) -> None:
    if not isinstance(message, dict):
        delivery.unstorable[NO_OBJECT] += 1
        return
    number, user_id = message.get("from"), message.get("from_user_id")
    contact = next(
        (contacts[key] for key in (number, user_id) if isinstance(key, str) and key in contacts),
        contacts.get(None),
    )
    if contact and contact.get("user_id") and _is_other(contact["user_id"], number, user_id):
        contact = None
    known = contact or {}
    system = as_object(message.get("system"))
    sender = address(
        [number, known.get("wa_id")],
        [user_id, known.get("user_id"), message.get("from_parent_user_id"),
         *(system.get(name) for name in ("previous_user_id", "user_id", "wa_id"))],
        bare=True,
    )  # fmt: skip
    metadata = as_object(context.value.get("metadata"))
    receiver = address(
        [metadata.get("display_phone_number")],
        [metadata.get("phone_number_id"), context.account],
        bare=True,
    )
    if context.name == _HISTORY and _is_own(message, sender, metadata):
        delivery.add_event("history.own")
        return
    delivery.add_message(
        message,
        message_id=_message_id(message, context),
        sender=sender,
        receiver=receiver,
        ts=as_ts(message.get("timestamp")),
        kind=message.get("type"),
        payload={**message, "contact": contact} if contact else message,
    )


def _is_other(known: object, number: object, user_id: object) -> bool:
    """Whether a contact with the user id `known` is somebody else than the sender."""
    own = address([number], [user_id], bare=True)
    own_id = user_id or (own if own[0] != "+" and own != UNKNOWN else known)
    return own_id != known


def _message_id(message: Mapping[str, object], context: _Context) -> object:
    """Return the id of a message.

    The file of a message in a history comes later, under the id that its placeholder in the
    thread has. It must not be taken for a repeat of the placeholder.
    """
    own = message.get("id")
    is_file = context.name == _HISTORY and not context.in_thread and message.get("type") in _MEDIA
    return f"{own}:media" if is_file and isinstance(own, str) and own else own


def _is_own(message: Mapping[str, object], sender: str, metadata: Mapping[str, object]) -> bool:
    """Whether the business wrote this part of a history; if in doubt, it did not."""
    from_me = as_object(message.get("history_context")).get("from_me")
    if isinstance(from_me, bool):
        return from_me
    display = address([metadata.get("display_phone_number")], bare=True)
    return sender[0] == "+" and sender == display
