"""Signatures: which header is right for which bytes. openssl made the literals, not our code.

printf '%s' BODY | openssl dgst -sha256 -hmac SECRET
"""

import hmac
from contextlib import suppress

import pytest

from webhook_api.errors import InvalidSignature
from webhook_api.intake.signature import sign, verify_signature
from webhook_api.outcome import SignedBy

BODY = (
    b'{"message_id":"m1","from":"+919876543210","to":"+14155550100",'
    b'"ts":"2025-01-15T10:00:00Z","text":"Hello"}'
)
SIGNATURE = "ff1016e524bc9299d18988ecf27a880af9428140e3850af0c73ea1eef091a4cb"

VECTORS = {
    "a message": ("testsecret", BODY, SIGNATURE),
    "with a newline at its end": (
        "testsecret", BODY + b"\n",
        "ad767e03667050a8e8308f05d8c1154a98dd3e8f3e64a6bdac2c3c2d5cc0f889",
    ),
    "nothing": (
        "testsecret", b"",
        "883a1369fa89dbc40b32496dbec4174276f9899e88cdfdbf1b6327c2ebc7ffcb",
    ),
    "every byte": (
        "testsecret", bytes(range(256)),
        "51ad52465758523093e2f1288d31d9d1cdaff94c643b818fbe1d65eeb3adfb7e",
    ),
    "UTF-8": (
        "gehëim 🔑", '{"text":"À L\'ÉCOLE 🏫"}'.encode(),
        "fa70a04d3327925a7db1257041f35c7c2c1ea359cb3861020c3ad66d0c9b54fd",
    ),
    "no UTF-8 in the body": (
        "clé €", b'\x00\xff{"text":"\xc3\xa9"}\n',
        "7a5b3e31b7e6ee56bf2b7d6d1de0098dc8c440cca6fa31a5cfa018f84a526a53",
    ),
    "a secret longer than a block": (
        "k" * 100, BODY,
        "387e9b0932b160b1d8ff981a233d058308ef5e2af7353147bf18c4023d9f700c",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("secret", "body", "signature"), VECTORS.values(), ids=VECTORS)
def test_a_signature_is_the_one_of_openssl(secret: str, body: bytes, signature: str) -> None:
    assert sign(secret, body) == signature

    for supplied in (signature, signature.upper(), signature.title()):
        assert verify_signature(secret, body, supplied) is SignedBy.CURRENT
        assert verify_signature(secret, body, f"sha256={supplied}") is SignedBy.CURRENT


WRONG = [
    None, "", "sha256=", "123", SIGNATURE[:-1], SIGNATURE + "0", SIGNATURE[:-1] + "c",
    f"sha512={SIGNATURE}", f"sha256=sha256={SIGNATURE}", f"{SIGNATURE}, {SIGNATURE}",
    f" {SIGNATURE}", f"{SIGNATURE}\n", f"{SIGNATURE}\x00", f"0x{SIGNATURE}",
    SIGNATURE.replace("e", "é"),
    SIGNATURE.translate({ord(c): ord(c) + 0xFEE0 for c in "0123456789"}), "\ud800", "é" * 64,
    sign("third", BODY), sign("", BODY),
]  # fmt: skip


@pytest.mark.parametrize("previous", ["", "old"])
@pytest.mark.parametrize("supplied", WRONG, ids=ascii)
def test_any_other_header_is_an_invalid_signature(supplied: str | None, previous: str) -> None:
    with pytest.raises(InvalidSignature):
        verify_signature("testsecret", BODY, supplied, previous=previous)


@pytest.mark.parametrize("body", [BODY + b"\n", BODY[:-1], BODY.replace(b"m1", b"m2"), b""])
def test_a_signature_fits_its_own_bytes_only(body: bytes) -> None:
    with pytest.raises(InvalidSignature):
        verify_signature("testsecret", body, SIGNATURE)


@pytest.mark.parametrize(("secret", "previous", "used"), [
    ("testsecret", "", SignedBy.CURRENT), ("testsecret", "old", SignedBy.CURRENT),
    ("new", "testsecret", SignedBy.PREVIOUS), ("testsecret", "testsecret", SignedBy.CURRENT),
])  # fmt: skip
def test_the_previous_secret_is_accepted_and_named(
    secret: str, previous: str, used: SignedBy
) -> None:
    assert verify_signature(secret, BODY, SIGNATURE, previous=previous) is used


@pytest.mark.parametrize("signed_with", ["testsecret", "old", "third"])
def test_both_signatures_are_compared_whichever_it_is(
    monkeypatch: pytest.MonkeyPatch, signed_with: str
) -> None:
    compared = []

    def compare(expected: bytes, claimed: bytes) -> bool:
        compared.append(expected)
        return expected == claimed

    monkeypatch.setattr(hmac, "compare_digest", compare)

    with suppress(InvalidSignature):
        verify_signature("testsecret", BODY, sign(signed_with, BODY), previous="old")

    assert compared == [sign("testsecret", BODY).encode(), sign("old", BODY).encode()]
