"""Signatures: which header is right for which bytes. openssl made the literals, not our code."""

import hmac
from contextlib import suppress

import pytest

from webhook_api.errors import InvalidSignature
from webhook_api.intake.signature import sign, verify_signature
from webhook_api.outcome import Key

BODY = (
    b'{"message_id":"m1","from":"+919876543210","to":"+14155550100",'
    b'"ts":"2025-01-15T10:00:00Z","text":"Hello"}'
)
# printf '%s' "$BODY" | openssl dgst -sha256 -hmac testsecret
SIGNATURE = "ff1016e524bc9299d18988ecf27a880af9428140e3850af0c73ea1eef091a4cb"


@pytest.mark.parametrize(
    ("secret", "body", "signature"),
    [
        ("testsecret", BODY, SIGNATURE),
        # printf '' | openssl dgst -sha256 -hmac testsecret
        (
            "testsecret",
            b"",
            "883a1369fa89dbc40b32496dbec4174276f9899e88cdfdbf1b6327c2ebc7ffcb",
        ),
        # printf '\000\377{"text":"\303\251"}\n' | openssl dgst -sha256 -hmac 'clé €'
        (
            "clé €",
            b'\x00\xff{"text":"\xc3\xa9"}\n',
            "7a5b3e31b7e6ee56bf2b7d6d1de0098dc8c440cca6fa31a5cfa018f84a526a53",
        ),
    ],
    ids=["message", "no bytes", "any bytes"],
)
def test_signatures_are_those_that_openssl_makes(secret: str, body: bytes, signature: str) -> None:
    verify_signature(secret, body, signature)

    assert sign(secret, body) == signature


@pytest.mark.parametrize(
    "supplied",
    [SIGNATURE.upper(), f"sha256={SIGNATURE}", f"sha256={SIGNATURE.upper()}", SIGNATURE.title()],
)
def test_hex_may_be_of_either_case_and_prefixed(supplied: str) -> None:
    verify_signature("testsecret", BODY, supplied)


@pytest.mark.parametrize(
    "supplied",
    [
        None,
        "",
        "sha256=",
        "123",
        SIGNATURE[:-1],
        SIGNATURE + "0",
        SIGNATURE[:-1] + "c",
        f"sha512={SIGNATURE}",
        f"sha256=sha256={SIGNATURE}",
        f"{SIGNATURE}, {SIGNATURE}",
        f" {SIGNATURE}",
        f"{SIGNATURE}\n",
        f"{SIGNATURE}\x00",
        f"0x{SIGNATURE}",
        SIGNATURE.replace("e", "é"),
        SIGNATURE.translate({ord(c): ord(c) + 0xFEE0 for c in "0123456789"}),
        "\ud800",
        "é" * 64,
    ],
    ids=ascii,
)
def test_any_other_header_is_an_invalid_signature(supplied: str | None) -> None:
    with pytest.raises(InvalidSignature):
        verify_signature("testsecret", BODY, supplied)


@pytest.mark.parametrize(("secret", "previous", "key"), [
    ("testsecret", "", Key.CURRENT), ("testsecret", "old", Key.CURRENT),
    ("new", "testsecret", Key.PREVIOUS), ("testsecret", "testsecret", Key.CURRENT),
])  # fmt: skip
def test_the_previous_secret_is_accepted_and_named(secret: str, previous: str, key: Key) -> None:
    assert verify_signature(secret, BODY, SIGNATURE, previous=previous) is key


def test_an_empty_previous_secret_is_not_a_key() -> None:
    with pytest.raises(InvalidSignature):
        verify_signature("testsecret", BODY, sign("", BODY), previous="")


def test_any_other_header_is_of_neither_secret() -> None:
    for supplied in (None, "", sign("third", BODY), sign("", BODY), "é" * 64):
        with pytest.raises(InvalidSignature):
            verify_signature("testsecret", BODY, supplied, previous="old")


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


@pytest.mark.parametrize("body", [BODY + b"\n", BODY[:-1], BODY.replace(b"m1", b"m2"), b""])
def test_a_signature_fits_its_own_bytes_only(body: bytes) -> None:
    with pytest.raises(InvalidSignature):
        verify_signature("testsecret", body, SIGNATURE)
