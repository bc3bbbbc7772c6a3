"""The formats of the providers: functions from headers, bytes and URL to messages.

Nothing here knows Flask or SQL. A provider is in use if its secret is set.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from webhook_api.config import Config
from webhook_api.providers import meta, standard, twilio
from webhook_api.providers.delivery import Delivery

__all__ = ["NAMES", "Delivery", "Provider", "body_limits", "providers_in_use"]

NAMES = (meta.NAME, twilio.NAME, standard.NAME)


@dataclass(frozen=True, kw_only=True)
class Provider:
    """A provider in use. `url` is the URL that it delivers to, if it signs that."""

    name: str
    read: Callable[[Mapping[str, str], bytes, str], Delivery]
    max_body_bytes: int
    url: str = ""
    answer: str | None = None  # XML; None: the answer of /webhook
    handshake: Callable[[Mapping[str, str]], str | None] | None = None


def providers_in_use(config: Config) -> dict[str, Provider]:
    """Return the providers whose secrets are set, by their names."""
    found = []
    if config.meta_app_secret:
        found.append(
            Provider(
                name=meta.NAME,
                read=partial(meta.read_delivery, app_secret=config.meta_app_secret),
                max_body_bytes=max(config.max_body_bytes, meta.MAX_BODY_BYTES),
                handshake=partial(meta.answer_handshake, verify_token=config.meta_verify_token),
            )
        )
    if config.twilio_auth_token:
        found.append(
            Provider(
                name=twilio.NAME,
                read=partial(twilio.read_delivery, auth_token=config.twilio_auth_token),
                max_body_bytes=config.max_body_bytes,
                url=f"{config.public_url}/webhook/{twilio.NAME}",
                answer=twilio.EMPTY_TWIML,
            )
        )
    if config.standard_webhooks_keys:
        found.append(
            Provider(
                name=standard.NAME,
                read=partial(standard.read_delivery, keys=config.standard_webhooks_keys),
                max_body_bytes=config.max_body_bytes,
            )
        )
    return {provider.name: provider for provider in found}


def body_limits(config: Config) -> dict[str, int]:
    """Return for each path of deliveries how many bytes a body may have."""
    found = providers_in_use(config).values()
    by_provider = {f"/webhook/{provider.name}": provider.max_body_bytes for provider in found}
    limits = {"/webhook": config.max_body_bytes, **by_provider}
    # One slash more is the same route.
    return limits | {f"{path}/": limit for path, limit in limits.items()}
