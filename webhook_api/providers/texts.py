"""What a message says: one table for all providers.

It is what the user wrote or chose, else a short plain rendering. None if there is nothing to say.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from functools import partial
from math import inf

from pydantic_core import to_json

from webhook_api.errors import InvalidInput
from webhook_api.models import mended, parse_json

Render = Callable[[object], str | None]


def as_object(value: object) -> Mapping[str, object]:
    """Return `value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[object]:
    """Return `value` if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def parsed(value: object) -> object:
    """Return what a text says that is JSON; anything else stays unchanged."""
    if isinstance(value, str):
        with suppress(InvalidInput):
            return parse_json(value.encode(errors="surrogatepass"))
    return value


def contains(node: object, names: Collection[str]) -> bool:
    """Whether `node` has, at any depth, an object with a member of one of these names."""
    if isinstance(node, list):
        return any(contains(member, names) for member in node)
    return isinstance(node, dict) and (
        any(node.get(name) for name in names) or contains(list(node.values()), names)
    )


def text_of(provider: str, message: object) -> str | None:
    """Return the text of a provider's message: the first row of its table that gives one."""
    for path, render in TEXTS[provider]:
        found = message
        for name in filter(None, path.split(".")):
            found = as_object(found).get(name)
        if found is not None and (text := render(found)):
            return mended(text)
    return None


def as_json(value: object) -> str:
    """Return `value`, which came as JSON, as JSON that every parser reads."""
    try:
        return to_json(value, inf_nan_mode="strings").decode()
    except ValueError:  # half an emoji
        if isinstance(value, dict):
            members = (f"{as_json(name)}:{as_json(member)}" for name, member in value.items())
            return f"{{{','.join(members)}}}"
        if isinstance(value, list):
            return f"[{','.join(map(as_json, value))}]"
        return as_json(mended(str(value)))


def _written(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _form_fields(value: object) -> str | None:
    """Render the fields of a form, an object or its JSON, without the token of the flow."""
    value = parsed(value)
    if isinstance(value, str):
        return value
    fields = {name: one for name, one in as_object(value).items() if name != "flow_token"}
    return _joined(
        f"{name}: {one if isinstance(one, str) else as_json(one)}" for name, one in fields.items()
    )


def _of_its_kind(message: object) -> str | None:
    """Return what a message of a kind that is not in the table has written where others have it."""
    fields = as_object(message)
    own = as_object(fields.get(str(fields.get("type"))))
    return _written(own.get("body")) or _written(own.get("text")) or _written(own.get("caption"))


def _items(value: object) -> str | None:
    items = map(as_object, as_list(value))
    return _joined(
        f"{item.get('quantity', 1)} x {item['product_retailer_id']}"
        for item in items
        if "product_retailer_id" in item
    )


def _cards(value: object) -> str | None:
    return _joined((_card(as_object(one)) for one in as_list(parsed(value))), "; ")


def _card(contact: Mapping[str, object]) -> str | None:
    name = as_object(contact.get("name"))
    parts = [name.get("formatted_name") or name.get("first_name")]
    parts += [as_object(contact.get("org")).get("company")]
    for phone in map(as_object, as_list(contact.get("phones"))):
        parts.append(phone.get("phone") or phone.get("wa_id"))
    parts += [as_object(email).get("email") for email in as_list(contact.get("emails"))]
    return _joined(parts)


def _location(*names: str) -> Render:
    """Return what renders a location whose name, address and two degrees have these `names`."""

    def render(value: object) -> str | None:
        parts = [as_object(value).get(name) for name in names]
        degrees = [str(part) for part in parts[-2:] if _is_degrees(part)]
        return _joined([*parts[:-2], *degrees])

    return render


def _is_degrees(value: object) -> bool:
    try:
        degrees = float(value) if isinstance(value, str | int | float) else inf
    except (ValueError, OverflowError):
        return False
    return not isinstance(value, bool) and -180 <= degrees <= 180


def _media(fields: object) -> str | None:
    urls = (value for name, value in as_object(fields).items() if name.startswith("MediaUrl"))
    return _joined(urls, " ")


def _file_names(value: object) -> str | None:
    return _joined(as_object(one).get("Filename") for one in as_list(parsed(value)))


def _joined(parts: Iterable[object], separator: str = ", ") -> str | None:
    return separator.join(part for part in parts if isinstance(part, str) and part) or None


# The path in the provider's object for the message (empty: all of it), and how it is rendered.
TEXTS: dict[str, tuple[tuple[str, Render], ...]] = {
    # WhatsApp Business Platform, "messages webhook reference", a page for each kind.
    "meta": (
        ("text.body", _written),
        ("text", _written),
        ("button.text", _written),  # a button of a template
        ("interactive.button_reply.title", _written),
        ("interactive.list_reply.title", _written),
        ("interactive.nfm_reply.response_json", _form_fields),  # flows and addresses
        ("interactive.nfm_reply.body", _written),
        ("interactive.call_permission_reply.response", _written),
        ("reaction.emoji", _written),
        ("image.caption", _written),
        ("video.caption", _written),
        ("document.caption", _written),
        ("document.filename", _written),
        ("order.text", _written),
        ("order.product_items", _items),
        ("contacts", _cards),
        ("location", _location("name", "address", "latitude", "longitude")),
        ("location.url", _written),
        ("system.body", _written),
        ("edit.message", partial(text_of, "meta")),
        ("interactive.button_reply.id", _written),
        ("interactive.list_reply.id", _written),
        ("button.payload", _written),
        ("", _of_its_kind),
    ),
    # twilio.com/docs, "Twilio's request to your incoming message Webhook URL", and for flows
    # "Content types: WhatsApp flows".
    "twilio": (
        ("Body", _written),
        ("ButtonText", _written),
        ("ListTitle", _written),
        ("FlowData", _form_fields),
        ("InteractiveData", _form_fields),
        ("", _location("Label", "Address", "Latitude", "Longitude")),
        ("Contacts", _cards),
        ("Contacts", _written),
        ("", _media),
        ("Media", _file_names),  # of a conversation
        ("ButtonPayload", _written),
        ("ListId", _written),
    ),
    "standard": (("text", _written),),  # the specification's message
}
