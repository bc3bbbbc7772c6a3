"""Reads a secret: from the variable `NAME`, or from the file that `NAME_FILE` names."""

import codecs
import os
import stat
from collections.abc import Mapping
from pathlib import Path

MAX_SECRET_BYTES = 4096


class ConfigError(ValueError):
    """A setting is missing or cannot be used; the message names the variable."""


def read_secret(given: Mapping[str, str], name: str, *, may_be_empty: bool = False) -> str:
    """Return the secret `name`, or what is in the file that `name`_FILE names.

    Empty if neither is set. Line ends after the secret do not belong to it, as after an `echo`,
    nor does a byte order mark before it; bytes that are not UTF-8 become surrogates, as in a
    variable (PEP 383). With `may_be_empty`, a file with nothing but white space means that the
    secret is not set.

    Raises:
        ConfigError: both are set, or the file cannot be read, or holds no secret, or there is other
            white space at its ends.
    Source: "Environment variables", `_FILE`, of Docker's official images.
    """
    file_name = f"{name}_FILE"
    if file_name not in given:
        return checked_secret(given.get(name, ""), name)
    if name in given:
        raise ConfigError(f"{name} and {file_name} are both set: remove one of them")
    secret, reason = _read(Path(given[file_name]))
    if not (secret or reason or may_be_empty):
        reason = "the file is empty"
    if reason:
        raise ConfigError(f"{file_name} is {given[file_name]!r}: {reason}")
    return checked_secret(plain_value(os.fsdecode(secret)), file_name)


def plain_value(value: str) -> str:
    """Return `value` without what nobody sees: a byte order mark before it, line ends after it."""
    return value.removeprefix("\ufeff").rstrip("\r\n")


def checked_secret(secret: str, variable: str) -> str:
    """Return `secret`, which `variable` gives.

    Raises:
        ConfigError: it has white space at its start or end, which only one side might sign with.
    """
    if secret != secret.strip():
        raise ConfigError(f"{variable} cannot be used: it has white space at its start or end")
    return secret


def _read(path: Path) -> tuple[bytes, str]:
    """Return the line in the file, and why it cannot be used. If it is blank, it is empty."""
    try:
        # Reading a pipe might never end.
        if not stat.S_ISREG(path.stat().st_mode):
            return b"", "it is no regular file"
        with path.open("rb") as file:
            secret = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        return b"", error.strerror or str(error)
    except ValueError:  # a null byte in the name
        return b"", "it is no name of a file"
    if len(secret) > MAX_SECRET_BYTES:
        return b"", f"the file has more than {MAX_SECRET_BYTES} bytes"
    if b"\n" in secret.rstrip(b"\r\n") or b"\0" in secret:
        return b"", "the file has to hold the secret in one line, and nothing else"
    return (secret if secret.removeprefix(codecs.BOM_UTF8).strip() else b""), ""
