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

    Empty if neither is set. A line end in the file does not belong to the secret, nor does a byte
    order mark; bytes that are not UTF-8 become surrogates, as in a variable (PEP 383). With
    `may_be_empty`, a file with nothing but white space means that the secret is not set.

    Raises:
        ConfigError: both are set, or the file cannot be read, or holds no secret.
    Source: "Environment variables", `_FILE`, of Docker's official images.
    """
    file_name = f"{name}_FILE"
    if file_name not in given:
        return given.get(name, "")
    if name in given:
        raise ConfigError(f"{name} and {file_name} are both set: remove one of them")
    secret, reason = _read(Path(given[file_name]))
    if not (secret or reason or may_be_empty):
        reason = "the file is empty"
    if reason:
        raise ConfigError(f"{file_name} is {given[file_name]!r}: {reason}")
    return os.fsdecode(secret)


def _read(path: Path) -> tuple[bytes, str]:
    """Return the secret in the file, without the line end, and why it cannot be used."""
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
    # Some editors put a byte order mark at the start, which nobody sees.
    secret = secret.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n")
    if b"\n" in secret or b"\0" in secret:
        return b"", "the file has to hold the secret in one line, and nothing else"
    return (secret if secret.strip() else b""), ""
