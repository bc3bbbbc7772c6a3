"""The seal on a delivery: sign and verify raw bytes. Knows neither Flask nor JSON."""

import hmac

from webhook_api.errors import InvalidSignature

SIGNATURE_HEADER = "X-Signature"
_PREFIX = "sha256="


def sign(secret: str, body: bytes) -> str:
    """Return the hex HMAC-SHA256 of `body` under `secret` (RFC 2104; spec 1, "Signature").

    A secret from the environment may be bytes that are no UTF-8, which Python holds as
    surrogates; the key is those bytes.
    """
    return hmac.digest(secret.encode(errors="surrogateescape"), body, "sha256").hex()


def verify_signature(secret: str, body: bytes, supplied: str | None) -> None:
    """Return when `supplied` is the signature of exactly these bytes.

    Hex may be of either case and may follow `sha256=`. The comparison takes
    constant time, and is of bytes: `compare_digest` raises TypeError for a
    `str` that is not ASCII, which a stranger's header may well be.

    Raises:
        InvalidSignature: the header is missing or anything else.
    """
    claimed = (supplied or "").removeprefix(_PREFIX).lower()
    if not hmac.compare_digest(sign(secret, body).encode(), claimed.encode(errors="replace")):
        raise InvalidSignature
