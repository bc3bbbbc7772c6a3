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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import parse_qsl

logger = logging.getLogger(__name__)

_DATABASE_URL = "sqlite:///data/app.db"
_URL_OF_SQLITE = re.compile(r"sqlite(?:\+([a-zA-Z0-9_]+))?:///([^?]+)(?:\?(.*))?", re.DOTALL)
DATABASE_URL_FORMS = "sqlite:///relative/path or sqlite:////absolute/path"
MAX_SECRET_BYTES = 4096
_MAX_SOCKET_BYTES = 107  # unix(7)

Number = TypeVar("Number", int, float)
_WHOLE, _SECONDS = re.compile("[0-9]{1,20}"), re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


class ConfigError(ValueError):
    """A setting is missing or cannot be used; the message names the variable."""


class NamedKey(NamedTuple):
    """A key of Standard Webhooks, and the name of the sender that has it; empty: it has none."""

    key: bytes
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of the service. `docs/reference.md` explains them for operators."""

    webhook_secret: str = field(repr=False)
    webhook_secret_previous: str = field(default="", repr=False)  # accepted too; empty: none
    read_token: str = field(default="", repr=False)  # empty: reads are open
    database_path: Path = Path("data/app.db")
    database_driver: str = ""  # that the URL names; ignored
    log_level: str = "INFO"
    bind: str = "0.0.0.0"  # noqa: S104 - the container has to be reachable from outside
    port: int = 8000
    web_concurrency: int = 2
    web_threads: int = 2  # that make pages
    max_body_bytes: int = 262_144
    commit_deadline_s: float = 4.0
    read_deadline_s: float = 5.0
    keepalive_s: int = 5  # for the next request of a connection
    retention_days: int = 0  # 0: every message is kept
    leaves_checkpoints: bool = False  # to Litestream
    litestream_socket: Path | None = None
    ack_after_replica: bool = False  # False: a delivery is acknowledged when it is on disk
    is_standby: bool = False  # it only shows copies of another machine's database
    # Whether to check that only one thread at a time uses a reader of the database: in tests,
    # and in Python's development mode (`python -X dev`).
    check_connections: bool = sys.flags.dev_mode
    # Each provider is off without its secret.
    meta_app_secrets: tuple[str, ...] = field(default=(), repr=False)  # the current one first
    meta_verify_token: str = field(default="", repr=False)
    twilio_auth_tokens: tuple[str, ...] = field(default=(), repr=False)
    twilio_account_sid: str = ""  # for `recover`, like the next
    twilio_api_key: str = field(default="", repr=False)  # SID:SECRET
    public_url: str = ""  # without a slash at its end
    standard_webhooks_keys: tuple[NamedKey, ...] = field(default=(), repr=False)
    forward_keys: tuple[bytes, ...] = field(default=(), repr=False)  # of `forward`; the first signs

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
        number = partial(_number, given)
        database_path, database_driver = _database(given.get("DATABASE_URL", _DATABASE_URL))
        return cls(
            webhook_secret=_secret(given),
            # An emptied file and SIGHUP remove it without a restart.
            webhook_secret_previous=read_secret(
                given, "WEBHOOK_SECRET_PREVIOUS", may_be_empty=True
            ),
            read_token=_token(given),
            database_path=database_path,
            database_driver=database_driver,
            log_level=_log_level(given.get("LOG_LEVEL", cls.log_level)),
            bind=_address(given.get("BIND", cls.bind)),
            port=number("PORT", cls.port, 1, 65_535),
            web_concurrency=number("WEB_CONCURRENCY", cls.web_concurrency, 1, 64),
            web_threads=number("WEB_THREADS", cls.web_threads, 1, 1024),
            max_body_bytes=number("MAX_BODY_BYTES", cls.max_body_bytes, 1, 64 * 1024 * 1024),
            commit_deadline_s=number("COMMIT_DEADLINE_S", cls.commit_deadline_s, 0.1, 60),
            read_deadline_s=number("READ_DEADLINE_S", cls.read_deadline_s, 0.1, 60),
            keepalive_s=number("KEEPALIVE_S", cls.keepalive_s, 1, 3600),
            retention_days=number("RETENTION_DAYS", cls.retention_days, 0, 36_500),
            leaves_checkpoints=_one_of(given, "CHECKPOINTS", "service", "litestream")
            == "litestream",
            litestream_socket=_litestream_socket(given),
            ack_after_replica=_ack_after_replica(given),
            is_standby=_one_of(given, "ROLE", "primary", "standby") == "standby",
            meta_app_secrets=_secrets(given, "META_APP_SECRET", needs="META_VERIFY_TOKEN"),
            meta_verify_token=_verify_token(given),
            twilio_auth_tokens=_secrets(given, "TWILIO_AUTH_TOKEN", needs="PUBLIC_URL"),
            twilio_account_sid=given.get("TWILIO_ACCOUNT_SID", ""),
            twilio_api_key=_api_key(given.get("TWILIO_API_KEY", "")),
            public_url=_public_url(given.get("PUBLIC_URL", "")),
            standard_webhooks_keys=_keys(given, "STANDARD_WEBHOOKS_SECRET"),
            forward_keys=tuple(named.key for named in _keys(given, "FORWARD_SECRET")),
        )

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
        given: dict[str, Sequence[str]] = {
            "WEBHOOK_SECRET": (self.webhook_secret,),
            "WEBHOOK_SECRET_PREVIOUS": (self.webhook_secret_previous,),
            "READ_TOKEN": (self.read_token,),
            "META_APP_SECRET": self.meta_app_secrets,
            "META_VERIFY_TOKEN": (self.meta_verify_token,),
            "TWILIO_AUTH_TOKEN": self.twilio_auth_tokens,
            "TWILIO_API_KEY": (self.twilio_api_key,),
        }
        return [name for name, secrets in given.items() if any(map(_is_quoted, secrets))]


def set_web_concurrency(config: Config) -> None:
    """Give the environment the number that Gunicorn reads there when it is imported.

    Where the variable is set to nothing, Gunicorn would fail with a traceback.
    """
    os.environ["WEB_CONCURRENCY"] = str(config.web_concurrency)


def inherits_listener() -> bool:
    """Return whether another master has started this one, and shares its socket (SIGUSR2)."""
    return "GUNICORN_FD" in os.environ


def _is_quoted(secret: str) -> bool:
    return bool(secret) and (secret[0] in "\"'" or secret[-1] in "\"'")


def _secret(given: Mapping[str, str]) -> str:
    if secret := read_secret(given, "WEBHOOK_SECRET"):
        return secret
    raise ConfigError("WEBHOOK_SECRET is not set: give it the secret shared with the provider")


def _token(given: Mapping[str, str]) -> str:
    token = read_secret(given, "READ_TOKEN")
    # Characters that every client sends unchanged in a header.
    if token and not re.fullmatch("[!-~]{16,4096}", token):
        raise ConfigError(
            "READ_TOKEN cannot be used: accepted are 16 to 4096 letters, digits and signs of ASCII,"
            " without spaces"
        )
    return token


def _database(url: str) -> tuple[Path, str]:
    """Return the file and the driver that a SQLite URL names; the driver is usually empty.

    Three slashes are relative to the working directory, four are absolute. A driver may follow
    `sqlite+`, and options a `?` (SQLAlchemy, "Database URLs", SQLite).
    """
    url = url.strip()
    match = _URL_OF_SQLITE.fullmatch(url)
    driver, path, options = match.groups(default="") if match else ("", "", "")
    if options:
        names = ", ".join(name for name, _ in parse_qsl(options, keep_blank_values=True))
        raise ConfigError(
            f"DATABASE_URL has options ({names}): accepted are none, only {DATABASE_URL_FORMS}"
        )
    if not path or path == ":memory:":
        raise ConfigError(f"DATABASE_URL is {url!r}: accepted are {DATABASE_URL_FORMS}")
    if not Path(path).name or not _is_utf_8(path):
        raise ConfigError(f"DATABASE_URL is {url!r}: it has to name a file, in UTF-8")
    return Path(path), driver


def _is_utf_8(value: str) -> bool:
    # Other bytes come out of the environment as lone surrogates (PEP 383).
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _log_level(value: str) -> str:
    """Return the level of one of Python's names for it; NOTSET, which hides nothing, is DEBUG."""
    levels = logging.getLevelNamesMapping()
    if value.upper() not in levels:
        raise ConfigError(f"LOG_LEVEL is {value!r}: accepted are {', '.join(levels)}")
    return logging.getLevelName(levels[value.upper()] or logging.DEBUG)


def _one_of(given: Mapping[str, str], name: str, *accepted: str) -> str:
    """Return the value of `name`; the first of those accepted is the default."""
    value = given.get(name, accepted[0])
    if value not in accepted:
        raise ConfigError(f"{name} is {value!r}: accepted are {', '.join(accepted)}")
    return value


def _ack_after_replica(given: Mapping[str, str]) -> bool:
    if _one_of(given, "ACK_AFTER", "disk", "replica") == "disk":
        return False
    if given.get("ROLE") == "standby":
        return False  # all that it has is from the replica
    if given.get("CHECKPOINTS") != "litestream":
        raise ConfigError("CHECKPOINTS is not litestream: ACK_AFTER=replica needs it")
    if not given.get("LITESTREAM_SOCKET"):
        raise ConfigError("LITESTREAM_SOCKET is not set: ACK_AFTER=replica needs it")
    return True


def _litestream_socket(given: Mapping[str, str]) -> Path | None:
    value = given.get("LITESTREAM_SOCKET")
    if not value:
        return None
    if not value.startswith("/") or len(os.fsencode(value)) > _MAX_SOCKET_BYTES:
        raise ConfigError(
            f"LITESTREAM_SOCKET is {value!r}: accepted are absolute paths of up to"
            f" {_MAX_SOCKET_BYTES} bytes"
        )
    return Path(value)


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ConfigError(
            f"BIND is {value!r}: accepted are IP addresses, such as 127.0.0.1"
        ) from None


def _number(
    given: Mapping[str, str], name: str, default: Number, low: float, high: float
) -> Number:
    """Return the number `name`, of the type of its default: a whole one, or seconds."""
    form, kind = (_WHOLE, "whole numbers") if isinstance(default, int) else (_SECONDS, "seconds")
    value = given.get(name, str(default))
    if not (form.fullmatch(value) and low <= float(value) <= high):
        raise ConfigError(f"{name} is {value!r}: accepted are {kind} from {low} to {high}")
    return type(default)(value)


def _secrets(given: Mapping[str, str], name: str, *, needs: str = "") -> tuple[str, ...]:
    """Return the secrets `name`, which are separated by spaces and cannot be used without `needs`.

    While a secret is changed, both are accepted: the new one is first.
    """
    secrets = tuple(read_secret(given, name).split())
    if secrets and needs and needs not in given:
        raise ConfigError(f"{needs} is not set: {name} needs it")
    return secrets


def _verify_token(given: Mapping[str, str]) -> str:
    used = "META_APP_SECRET" in given or "META_APP_SECRET_FILE" in given
    if "META_VERIFY_TOKEN" in given and not used:
        raise ConfigError("META_APP_SECRET is not set: META_VERIFY_TOKEN needs it")
    return _checked(given.get("META_VERIFY_TOKEN", ""), "META_VERIFY_TOKEN")


def _api_key(value: str) -> str:
    if value and not re.fullmatch("[!-9;-~]+:[!-~]+", value):
        raise ConfigError("TWILIO_API_KEY cannot be used: accepted are SID:SECRET of an API key")
    return value


def _public_url(value: str) -> str:
    """Return the URL under which the outside reaches `/`, without a slash at its end."""
    # Without a query, a fragment, a user, spaces, and characters beyond ASCII.
    plain = re.fullmatch(
        r"https?://(?:\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::[0-9]{1,5})?(?:/[!-~]*)?", value, re.A
    )
    if value and not (plain and not re.search("[?#]", value)):
        raise ConfigError(
            f"PUBLIC_URL is {value!r}: accepted are http:// and https:// URLs without a query"
        )
    return value.rstrip("/")


def _keys(given: Mapping[str, str], name: str) -> tuple[NamedKey, ...]:
    """Return the keys of the Standard Webhooks secrets `name`."""
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
        return _checked(given.get(name, ""), name)
    if name in given:
        raise ConfigError(f"{name} and {file_name} are both set: remove one of them")
    secret, reason = _read(Path(given[file_name]))
    if not (secret or reason or may_be_empty):
        reason = "the file is empty"
    if reason:
        raise ConfigError(f"{file_name} is {given[file_name]!r}: {reason}")
    return _checked(_plain(os.fsdecode(secret)), file_name)


def _plain(value: str) -> str:
    """Return `value` without what nobody sees: a byte order mark before it, line ends after it."""
    return value.removeprefix("\ufeff").rstrip("\r\n")


def _checked(secret: str, variable: str) -> str:
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
