"""The seal on a delivery: sign and verify raw bytes. Knows neither Flask nor JSON."""

import hmac

from webhook_api.errors import InvalidSignature
from webhook_api.outcome import Key

SIGNATURE_HEADER = "X-Signature"
_PREFIX = "sha256="


def sign(secret: str, body: bytes) -> str:
    """Return the hex HMAC-SHA256 of `body` under `secret` (RFC 2104; spec 1, "Signature").

    A secret from the environment may be bytes that are no UTF-8, which Python holds as
    surrogates; the key is those bytes.
    """
    return hmac.digest(secret.encode(errors="surrogateescape"), body, "sha256").hex()


def verify_signature(secret: str, body: bytes, supplied: str | None, *, previous: str = "") -> Key:
    """Return which of the two secrets `supplied` is the signature of exactly these bytes under.

    Hex may be of either case and may follow `sha256=`. An empty `previous` is none, and no key.

    Raises:
        InvalidSignature: the header is missing or anything else.
    """
    claimed = (supplied or "").removeprefix(_PREFIX).lower()
    # If there are two, both are always compared: the time does not tell which of them it was.
    is_current = _is_signature(claimed, secret, body)
    is_previous = previous != "" and _is_signature(claimed, previous, body)
    if is_current:
        return Key.CURRENT
    if is_previous:
        return Key.PREVIOUS
    raise InvalidSignature


def _is_signature(claimed: str, secret: str, body: bytes) -> bool:
    """Compare in constant time, and bytes.

    `compare_digest` raises TypeError for a `str` that is not ASCII, which a stranger's header may
    well be.
    """
    return hmac.compare_digest(sign(secret, body).encode(), claimed.encode(errors="replace"))
