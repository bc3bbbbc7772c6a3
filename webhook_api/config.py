"""Settings: the environment as one frozen `Config`. No other module reads it.

A secret is in the variable `NAME`, or in the file that `NAME_FILE` names.
"""

import base64
import codecs
import ipaddress
import logging
import os
import re
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl

logger = logging.getLogger(__name__)

_URL_OF_SQLITE = re.compile(r"sqlite(?:\+([a-zA-Z0-9_]+))?:///([^?]+)(?:\?(.*))?", re.DOTALL)
_DATABASE_URL_FORMS = "sqlite:///relative/path or sqlite:////absolute/path"
_MAX_SECRET_BYTES = 4096
_MAX_SOCKET_BYTES = 107  # unix(7)

Given = Mapping[str, str]  # the variables that are set
Number = TypeVar("Number", int, float)
_WHOLE, _SECONDS = re.compile("[0-9]{1,20}"), re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


class ConfigError(ValueError):
    """A setting is missing or cannot be used; the message names the variable."""


class NamedKey(NamedTuple):
    """A key of Standard Webhooks, and the name of the sender that has it; empty: it has none."""

    key: bytes
    name: str = ""


def _database_path(url: str) -> Path:
    """Return the file that a SQLite URL names.

    Three slashes are relative to the working directory, four are absolute. A driver may follow
    `sqlite+`, and options a `?` (SQLAlchemy, "Database URLs", SQLite).
    """
    url = url.strip()
    match = _URL_OF_SQLITE.fullmatch(url)
    _driver, path, options = match.groups(default="") if match else ("", "", "")
    if options:
        names = ", ".join(name for name, _ in parse_qsl(options, keep_blank_values=True))
        raise ConfigError(
            f"DATABASE_URL has options ({names}): accepted are none, only {_DATABASE_URL_FORMS}"
        )
    if not path or path == ":memory:":
        raise ConfigError(f"DATABASE_URL is {url!r}: accepted are {_DATABASE_URL_FORMS}")
    # Bytes that are not UTF-8 come out of the environment as lone surrogates (PEP 383).
    if not Path(path).name or re.search("[\ud800-\udfff]", path):
        raise ConfigError(f"DATABASE_URL is {url!r}: it has to name a file, in UTF-8")
    return Path(path)


def _database_driver(url: str) -> str:
    match = _URL_OF_SQLITE.fullmatch(url.strip())
    return match[1] or "" if match else ""


def _log_level(name: str) -> str:
    """Return the level of one of Python's names for it; NOTSET, which hides nothing, is DEBUG."""
    levels = logging.getLevelNamesMapping()
    if name.upper() not in levels:
        raise ValueError(", ".join(levels))
    return logging.getLevelName(levels[name.upper()] or logging.DEBUG)


def _is_chosen(value: str, default: str, other: str) -> bool:
    """Return whether `value` is the one that is not the default; there are only these two."""
    if value not in (default, other):
        raise ValueError(f"{default}, {other}")
    return value == other


def _socket(path: str) -> Path:
    if not path.startswith("/") or len(os.fsencode(path)) > _MAX_SOCKET_BYTES:
        raise ValueError(f"absolute paths of up to {_MAX_SOCKET_BYTES} bytes")
    return Path(path)


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("IP addresses, such as 127.0.0.1") from None


def _number(value: str, low: Number, high: int) -> Number:
    """Return a number of the type of `low`: a whole one, or seconds."""
    form, kind = (_WHOLE, "whole numbers") if isinstance(low, int) else (_SECONDS, "seconds")
    if not (form.fullmatch(value) and low <= float(value) <= high):
        raise ValueError(f"{kind} from {low} to {high}")
    return type(low)(value)


def _public_url(value: str) -> str:
    """Return the URL under which the outside reaches `/`, without a slash at its end."""
    # Without a query, a fragment, a user, spaces, and characters beyond ASCII.
    plain = re.fullmatch(
        r"https?://(?:\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::[0-9]{1,5})?(?:/[!-~]*)?", value, re.A
    )
    if not plain or re.search("[?#]", value):
        raise ValueError("http:// and https:// URLs without a query")
    return value.rstrip("/")


def _one_secret(given: Given, name: str, *, may_be_empty: bool = False) -> str:
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
        return _variable(given, name)
    if name in given:
        raise ConfigError(f"{name} and {file_name} are both set: remove one of them")
    try:
        secret = _read_line(Path(given[file_name]))
        if not (secret or may_be_empty):
            raise ValueError("the file is empty")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{file_name} is {given[file_name]!r}: {reason}") from None
    return _variable({file_name: _plain(os.fsdecode(secret))}, file_name)


def _variable(given: Given, name: str) -> str:
    """Return the secret in the variable `name`; empty if it is not set.

    Raises:
        ConfigError: it has white space at its start or end, which only one side might sign with.
    """
    secret = given.get(name, "")
    if secret != secret.strip():
        raise ConfigError(f"{name} cannot be used: it has white space at its start or end")
    return secret


def _plain(value: str) -> str:
    """Return `value` without what nobody sees: a byte order mark before it, line ends after it."""
    return value.removeprefix("\ufeff").rstrip("\r\n")


def _read_line(path: Path) -> bytes:
    """Return the line in the file, which is empty if it is blank.

    Raises:
        OSError, ValueError: it cannot be read, or has more than a line.
    """
    # Reading a pipe might never end.
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no regular file")
    with path.open("rb") as file:
        line = file.read(_MAX_SECRET_BYTES + 1)
    if len(line) > _MAX_SECRET_BYTES:
        raise ValueError(f"the file has more than {_MAX_SECRET_BYTES} bytes")
    if b"\n" in line.rstrip(b"\r\n") or b"\0" in line:
        raise ValueError("the file has to hold the secret in one line, and nothing else")
    return line if line.removeprefix(codecs.BOM_UTF8).strip() else b""


def _needed_secret(given: Given, name: str) -> str:
    if secret := _one_secret(given, name):
        return secret
    raise ConfigError(f"{name} is not set: give it the secret shared with the provider")


def _previous_secret(given: Given, name: str) -> str:
    # It may be none: an emptied file and SIGHUP remove it without a restart.
    return _one_secret(given, name, may_be_empty=True)


def _token(given: Given, name: str) -> str:
    token = _one_secret(given, name)
    # Characters that every client sends unchanged in a header.
    if token and not re.fullmatch("[!-~]{16,4096}", token):
        raise ConfigError(
            f"{name} cannot be used: accepted are 16 to 4096 letters, digits and signs of ASCII,"
            " without spaces"
        )
    return token


def _api_key(given: Given, name: str) -> str:
    key = given.get(name, "")
    if key and not re.fullmatch("[!-9;-~]+:[!-~]+", key):
        raise ConfigError(f"{name} cannot be used: accepted are SID:SECRET of an API key")
    return key


def _secrets(given: Given, name: str) -> tuple[str, ...]:
    """Return secrets that are separated by spaces.

    While a secret is changed, both are accepted: the new one is first.
    """
    return tuple(_one_secret(given, name).split())


def _keys(given: Given, name: str) -> tuple[NamedKey, ...]:
    """Return the keys of Standard Webhooks secrets that are separated by spaces."""
    secrets = _secrets(given, name)
    try:
        return tuple(map(_key, secrets))
    except ValueError:
        raise ConfigError(
            f"{name} cannot be used: accepted are whsec_ and base64, with a name as in"
            " shop=whsec_ or without, and several of these separated by spaces"
        ) from None


def _key(secret: str) -> NamedKey:
    form = re.fullmatch("(?:([a-z0-9-]{1,32})=)?whsec_([^=]+)=*", secret)  # some leave the = out
    if not form:
        raise ValueError("it has another form")
    encoded = form[2] + "=" * (-len(form[2]) % 4)
    return NamedKey(base64.b64decode(encoded, validate=True), form[1] or "")


def _setting(default: object, name: str, read: Callable[..., object], *options: object) -> Any:
    """Return a field of `Config`: what `read` makes of the variable `name`, else the default.

    A ValueError of `read` says which values are accepted.
    """

    def read_variable(given: Given) -> object:
        try:
            return read(given[name], *options) if name in given else default
        except ConfigError:
            raise
        except ValueError as accepted:
            raise ConfigError(f"{name} is {given[name]!r}: accepted are {accepted}") from None

    return field(default=default, metadata={"read": read_variable})


def _secret(default: object, name: str, read: Callable[..., object]) -> Any:
    """Return a field that is never printed, and that `read` finds under this name."""
    return field(
        default=default, repr=False, metadata={"read": partial(read, name=name), "name": name}
    )


# Of `Config`: a field, its setting, another field, and what is missing if it has no value.
_NEEDS = (
    ("ack_after_replica", "ACK_AFTER=replica",
     "leaves_checkpoints", "CHECKPOINTS is not litestream"),
    ("ack_after_replica", "ACK_AFTER=replica", "litestream_socket", "LITESTREAM_SOCKET is not set"),
    ("meta_app_secrets", "META_APP_SECRET", "meta_verify_token", "META_VERIFY_TOKEN is not set"),
    ("meta_verify_token", "META_VERIFY_TOKEN", "meta_app_secrets", "META_APP_SECRET is not set"),
    ("twilio_auth_tokens", "TWILIO_AUTH_TOKEN", "public_url", "PUBLIC_URL is not set"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of the service, and how each is read.

    `docs/reference.md` explains them for operators.
    """

    database_path: Path = _setting(Path("data/app.db"), "DATABASE_URL", _database_path)
    database_driver: str = _setting("", "DATABASE_URL", _database_driver)  # is ignored
    webhook_secret: str = _secret(MISSING, "WEBHOOK_SECRET", _needed_secret)
    webhook_secret_previous: str = _secret("", "WEBHOOK_SECRET_PREVIOUS", _previous_secret)
    read_token: str = _secret("", "READ_TOKEN", _token)  # empty: reads are open
    log_level: str = _setting("INFO", "LOG_LEVEL", _log_level)
    # The default is reachable from outside, as the container has to be.
    bind: str = _setting("0.0.0.0", "BIND", _address)  # noqa: S104
    port: int = _setting(8000, "PORT", _number, 1, 65_535)
    web_concurrency: int = _setting(2, "WEB_CONCURRENCY", _number, 1, 64)
    web_threads: int = _setting(2, "WEB_THREADS", _number, 1, 1024)  # that make pages
    max_body_bytes: int = _setting(262_144, "MAX_BODY_BYTES", _number, 1, 64 * 1024**2)
    commit_deadline_s: float = _setting(4.0, "COMMIT_DEADLINE_S", _number, 0.1, 60)
    read_deadline_s: float = _setting(5.0, "READ_DEADLINE_S", _number, 0.1, 60)
    keepalive_s: int = _setting(5, "KEEPALIVE_S", _number, 1, 3600)  # for the next request
    retention_days: int = _setting(0, "RETENTION_DAYS", _number, 0, 36_500)  # 0: all are kept
    # To Litestream.
    leaves_checkpoints: bool = _setting(False, "CHECKPOINTS", _is_chosen, "service", "litestream")
    litestream_socket: Path | None = _setting(None, "LITESTREAM_SOCKET", _socket)
    # False: a delivery is acknowledged when it is on disk.
    ack_after_replica: bool = _setting(False, "ACK_AFTER", _is_chosen, "disk", "replica")
    # It only shows copies of another machine's database.
    is_standby: bool = _setting(False, "ROLE", _is_chosen, "primary", "standby")
    # Whether to check that only one thread at a time uses a reader of the database: in tests,
    # and in Python's development mode (`python -X dev`).
    check_connections: bool = sys.flags.dev_mode
    # Each provider is off without its secret. Of several secrets, the first is the current one.
    meta_app_secrets: tuple[str, ...] = _secret((), "META_APP_SECRET", _secrets)
    meta_verify_token: str = _secret("", "META_VERIFY_TOKEN", _variable)
    twilio_auth_tokens: tuple[str, ...] = _secret((), "TWILIO_AUTH_TOKEN", _secrets)
    twilio_account_sid: str = _setting("", "TWILIO_ACCOUNT_SID", str)  # for `recover`
    twilio_api_key: str = _secret("", "TWILIO_API_KEY", _api_key)  # SID:SECRET, for `recover`
    public_url: str = _setting("", "PUBLIC_URL", _public_url)  # without a slash at its end
    standard_webhooks_keys: tuple[NamedKey, ...] = _secret((), "STANDARD_WEBHOOKS_SECRET", _keys)
    forward_keys: tuple[NamedKey, ...] = _secret((), "FORWARD_SECRET", _keys)  # the first one signs

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "Config":
        """Read the settings from `environ` (default: the process's own).

        An empty variable counts as unset: Compose passes on `NAME=${NAME:-}`. Line ends after a
        value do not belong to it, nor does a byte order mark before it or at the start of a `.env`.

        Raises:
            ConfigError: a variable is missing or has a value outside its range.
        """
        environ = os.environ if environ is None else environ
        given = {
            _plain(name): plain
            for name, value in sorted(environ.items(), reverse=True)  # names with the mark first
            if (plain := _plain(value))
        }
        config = cls(
            **{one.name: one.metadata["read"](given) for one in fields(cls) if one.metadata}
        )
        if config.is_standby:
            config = replace(config, ack_after_replica=False)  # all it has is from the replica
        for setting, name, needed, missing in _NEEDS:
            if getattr(config, setting) and not getattr(config, needed):
                raise ConfigError(f"{missing}: {name} needs it")
        return config

    @property
    def repeated_secrets(self) -> list[str]:
        """The settings whose older secret is the current one, so that no older one is accepted."""
        accepted: dict[str, Sequence[object]] = {
            "WEBHOOK_SECRET_PREVIOUS": (self.webhook_secret, self.webhook_secret_previous),
            "META_APP_SECRET": self.meta_app_secrets,
            "TWILIO_AUTH_TOKEN": self.twilio_auth_tokens,
            "STANDARD_WEBHOOKS_SECRET": self.standard_webhooks_keys,
        }
        return [name for name, secrets in accepted.items() if len(set(secrets)) < len(secrets)]

    @property
    def quoted_secrets(self) -> list[str]:
        """The settings with a secret that has a quotation mark at an end.

        `docker run --env-file` leaves it there, where a shell removes it. It may belong to the
        secret, so it stays.
        """
        return [
            one.metadata["name"]
            for one in fields(self)
            if "name" in one.metadata and _is_quoted(getattr(self, one.name))
        ]


def _is_quoted(secret: object) -> bool:
    if isinstance(secret, str):
        return secret != secret.strip("\"'")
    return isinstance(secret, tuple) and any(map(_is_quoted, secret))


def set_web_concurrency(config: Config) -> None:
    """Give the environment the number that Gunicorn reads there when it is imported.

    Where the variable is set to nothing, Gunicorn would fail with a traceback.
    """
    os.environ["WEB_CONCURRENCY"] = str(config.web_concurrency)


def inherits_listener() -> bool:
    """Return whether another master has started this one, and shares its socket (SIGUSR2)."""
    return "GUNICORN_FD" in os.environ


class InheritedSettings:
    """The settings that the master reads at the start and at each SIGHUP, and its workers inherit.

    So a worker that replaces a dead one has the settings of the others, even if the files of the
    secrets have changed since.
    """

    settings: Config | None = None  # what the master has read; None in a command, which has none

    def read(self) -> Config:
        """Read the settings again and return them; if they are wrong now, the earlier ones.

        Raises:
            ConfigError: they are wrong, and there are no earlier ones.
        """
        try:
            self.settings = Config.from_env()
        except ConfigError as error:
            if self.settings is None:
                raise
            logger.error("settings stay as they were: %s", error)
        else:
            for name in self.settings.repeated_secrets:
                logger.warning("%s repeats the current secret: no older one is accepted", name)
            for name in self.settings.quoted_secrets:
                logger.warning("%s has quotation marks: they are part of the secret", name)
        return self.settings


INHERITED = InheritedSettings()  # of this process and those that it forks
