"""The signature of POST /webhook: sign and verify raw bytes. Knows neither Flask nor JSON.

Other signature schemes are in `providers/`, a module for each.
"""

import hmac
from collections.abc import Sequence

from webhook_api.errors import InvalidSignature
from webhook_api.outcome import SignedBy

SIGNATURE_HEADER = "X-Signature"
_PREFIX = "sha256="


def sign(secret: str, body: bytes) -> str:
    """Return the hex HMAC-SHA256 of `body` under `secret` (RFC 2104; spec 1, "Signature").

    The bytes of a secret need not be UTF-8; Python holds the others as surrogates (PEP 383).
    """
    return hmac.digest(secret.encode(errors="surrogateescape"), body, "sha256").hex()


def verify_signature(
    secret: str, body: bytes, supplied: str | None, *, previous: str = ""
) -> SignedBy:
    """Return which of the two secrets made the signature `supplied` of the bytes `body`.

    It is hex of either case, with or without `sha256=` before it. An empty `previous` is never
    used as a key.

    Raises:
        InvalidSignature: `supplied` is missing or wrong.
    """
    claimed = supplied or ""
    # Both are always compared, so that the time does not tell which secret it was.
    is_current = is_signature(claimed, secret, body)
    is_previous = previous != "" and is_signature(claimed, previous, body)
    return which_secret([is_current, is_previous])


def which_secret(found: Sequence[bool]) -> SignedBy:
    """Return which secret made a signature, from whether each did; the first is the current one.

    Raises:
        InvalidSignature: none did.
    """
    if not any(found):
        raise InvalidSignature
    return SignedBy.CURRENT if found[0] else SignedBy.PREVIOUS


def is_signature(supplied: str, secret: str, body: bytes) -> bool:
    """Whether `supplied` is the signature of `body`; bytes are compared, in constant time.

    For a `str` that is not ASCII `compare_digest` raises TypeError, and a header may be that.
    """
    claimed = supplied.removeprefix(_PREFIX).lower()
    return hmac.compare_digest(sign(secret, body).encode(), claimed.encode(errors="replace"))
