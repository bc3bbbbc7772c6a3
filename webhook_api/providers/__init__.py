"""The formats of the providers: functions from headers, bytes and URL to messages.

Nothing here knows Flask or SQL. A provider is in use if its secret is set.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from webhook_api.config import Config
from webhook_api.errors import InvalidInput
from webhook_api.outcome import SignedBy
from webhook_api.providers import meta, standard, twilio
from webhook_api.providers.delivery import Delivery, UnreadableError

__all__ = ["EVENTS", "NAMES", "PARSERS", "Delivery", "Provider", "body_limits", "providers_in_use"]

Headers = Mapping[str, str]  # their names in lower case

PARSERS: dict[str, Callable[[Headers, bytes, str, int | None], Delivery]] = {
    module.NAME: module.parse for module in (meta, twilio, standard)
}
NAMES = tuple(PARSERS)
EVENTS = {module.NAME: module.EVENTS for module in (meta, twilio, standard)}


@dataclass(frozen=True, kw_only=True)
class Provider:
    """A provider in use. `url` is the URL that it delivers to, if it signs that."""

    name: str
    verify: Callable[[Headers, bytes, str], tuple[SignedBy, str]]  # and which sender's key it is
    max_body_bytes: int
    url: str = ""
    response: str | None = None  # XML; None: the response of /webhook
    handshake: Callable[[Mapping[str, str]], str | None] | None = None


def read_delivery(
    provider: str, headers: Headers, body: bytes, arrived: str, max_messages: int | None
) -> Delivery:
    """Return what a signed delivery holds: of at most `max_messages` messages, if that is given.

    Raises:
        UnreadableError: it cannot be read.
    """
    try:
        return PARSERS[provider](headers, body, arrived, max_messages)
    except InvalidInput:
        raise UnreadableError("not JSON") from None
    except UnreadableError:
        raise
    except Exception as error:
        raise UnreadableError(f"an error of the service: {type(error).__name__}") from error


def providers_in_use(config: Config) -> dict[str, Provider]:
    """Return the providers whose secrets are set, by their names."""
    found: dict[str, Provider] = {}
    if config.meta_app_secrets:
        found[meta.NAME] = Provider(
            name=meta.NAME,
            verify=partial(meta.verify, config.meta_app_secrets),
            max_body_bytes=max(config.max_body_bytes, meta.MAX_BODY_BYTES),
            handshake=partial(meta.respond_to_handshake, verify_token=config.meta_verify_token),
        )
    if config.twilio_auth_tokens:
        found[twilio.NAME] = Provider(
            name=twilio.NAME,
            verify=partial(twilio.verify, config.twilio_auth_tokens),
            max_body_bytes=config.max_body_bytes,
            url=f"{config.public_url}/webhook/{twilio.NAME}",
            response=twilio.EMPTY_TWIML,
        )
    if config.standard_webhooks_keys:
        found[standard.NAME] = Provider(
            name=standard.NAME,
            verify=partial(standard.verify, config.standard_webhooks_keys),
            max_body_bytes=config.max_body_bytes,
        )
    return found


def body_limits(config: Config) -> dict[str, int]:
    """Return for each path of deliveries how many bytes a body may have."""
    found = providers_in_use(config).values()
    by_provider = {f"/webhook/{provider.name}": provider.max_body_bytes for provider in found}
    return {"/webhook": config.max_body_bytes, **by_provider}
