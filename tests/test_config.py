"""Settings: which values are accepted, and what happens with others."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.builders import SECRET
from webhook_api.config import Config, ConfigError
from webhook_api.intake.signature import sign
from webhook_api.providers import providers_in_use


def config_of(**environ: str) -> Config:
    return Config.from_env({"WEBHOOK_SECRET": SECRET, **environ})


def test_only_the_secret_is_needed_and_an_empty_variable_counts_as_unset() -> None:
    names = ["DATABASE_URL", "LOG_LEVEL", "PORT", "WEB_THREADS", "MAX_BODY_BYTES"]

    config = config_of(**dict.fromkeys(names, ""), COMMIT_DEADLINE_S="")

    assert config == config_of() == Config(
        webhook_secret=SECRET,
        database_path=Path("data/app.db"),
        log_level="INFO",
        port=8000,
        max_body_bytes=262_144,
    )  # fmt: skip
    assert config.commit_deadline_s == 4.0
    assert providers_in_use(config) == {}


@pytest.mark.parametrize("environ", [{}, {"WEBHOOK_SECRET": ""}], ids=["unset", "empty"])
def test_without_the_secret_there_is_no_start(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", "of the process")

    with pytest.raises(ConfigError, match="WEBHOOK_SECRET is not set") as failure:
        Config.from_env(environ)

    assert "\n" not in str(failure.value)
    assert Config.from_env().webhook_secret == "of the process"  # that is the default


TWILIO = {"TWILIO_AUTH_TOKEN": "s", "PUBLIC_URL": "http://x"}
# The setting, its value, and what it becomes: three slashes are relative, four absolute.
ACCEPTED: list[tuple[str, str, object]] = [
    ("DATABASE_URL", "sqlite:///data/app.db", Path("data/app.db")),
    ("DATABASE_URL", "sqlite:////data/app.db", Path("/data/app.db")),
    ("DATABASE_URL", "sqlite:///app.db", Path("app.db")),
    ("DATABASE_URL", "  sqlite:///app.db \n", Path("app.db")),
    ("DATABASE_URL", "sqlite:///app.db?", Path("app.db")),
    ("DATABASE_URL", "sqlite+aiosqlite:////data/app.db", Path("/data/app.db")),
    ("DATABASE_URL", "sqlite+pysqlite:///app.db", Path("app.db")),
    ("DATABASE_URL", "sqlite:////with space/é%20#.db", Path("/with space/é%20#.db")),
    *(("LOG_LEVEL", level, level.upper())
      for level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "debug", "Info")),
    ("LOG_LEVEL", "WARN", "WARNING"), ("LOG_LEVEL", "warn", "WARNING"),
    ("LOG_LEVEL", "FATAL", "CRITICAL"), ("LOG_LEVEL", "NOTSET", "DEBUG"),
    *(("BIND", address, address) for address in ("127.0.0.1", "192.0.2.1", "::1", "::")),
    ("PUBLIC_URL", "https://hooks.example.com", "https://hooks.example.com"),
    ("PUBLIC_URL", "https://hooks.example.com/", "https://hooks.example.com"),
    ("PUBLIC_URL", "http://localhost:8000/a/b/", "http://localhost:8000/a/b"),
    ("PUBLIC_URL", "https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
    # echo a2V5LW9uZQ== | base64 -d
    ("STANDARD_WEBHOOKS_SECRET", "whsec_a2V5LW9uZQ==  whsec_a2V5",
     ((b"key-one", ""), (b"key", ""))),
    ("STANDARD_WEBHOOKS_SECRET", "whsec_a2V5LW9uZQ", ((b"key-one", ""),)),
]  # fmt: skip
FIELDS = {"DATABASE_URL": "database_path", "STANDARD_WEBHOOKS_SECRET": "standard_webhooks_keys"}


@pytest.mark.parametrize(("name", "value", "becomes"), ACCEPTED)
def test_a_value_is_accepted(name: str, value: str, becomes: object) -> None:
    config = config_of(**TWILIO | {name: value})

    assert getattr(config, FIELDS.get(name, name.lower())) == becomes
    assert providers_in_use(config)["twilio"].url == f"{config.public_url}/webhook/twilio"


URLS = r".* sqlite:///relative.* sqlite:////absolute"
RANGE = "is .* accepted are "
# The setting, what its message has to say after the name, and the values.
REFUSED: list[tuple[str, str, list[str]]] = [
    ("DATABASE_URL", URLS, [
        "postgres://localhost/app", "sqlite:", "sqlite://", "sqlite:///", "sqlite://data/app.db",
        "sqlite:///:memory:", "sqlite:///app.db?mode=ro", "data/app.db", "file:///data/app.db",
        "sqlite+:///app.db", "sqlite+aiosqlite:app.db", "postgresql+psycopg:///app", " ",
        "sqlite+aiosqlite:///:memory:", "sqlite:///?mode=ro",
    ]),
    ("DATABASE_URL", ".* name a file",
     ["sqlite:////", "sqlite:///.", "sqlite:////tmp/\udcff.db"]),
    ("LOG_LEVEL", RANGE, ["TRACE", "LOUD", "20", " INFO"]),
    ("PORT", RANGE, ["0", "65536", "-1", "8000 ", "http", "8e3", "８０００",
                     "00000000000000000065535999"]),
    ("BIND", RANGE, ["localhost", "127.0.0.1:8000", "127.1", "[::1]", "*"]),
    ("WEB_CONCURRENCY", RANGE, ["0", "65", "two"]),
    ("WEB_THREADS", RANGE, ["0", "1025", "1_0"]),
    ("MAX_BODY_BYTES", RANGE, ["0", "67108865", "1.5", "9" * 5000]),
    ("COMMIT_DEADLINE_S", RANGE, ["0", "61", "nan", "inf", "soon", "1_0", " 4 ", "1e1", "-1",
                                  "0.05"]),
    ("READ_DEADLINE_S", RANGE, ["0", "61", "nan", "inf", "soon"]),
    ("KEEPALIVE_S", RANGE, ["0", "3601", "1.5"]),
    ("CHECKPOINTS", RANGE, ["Litestream", "none"]),
    ("ACK_AFTER", RANGE, ["s3", "Replica", "both"]),
    ("RETENTION_DAYS", RANGE, ["-1", "36501", "90d", "1.5"]),
    ("PUBLIC_URL", RANGE, [
        "hooks.example.com", "ftp://x", "https://", "https://x?a", "https://x/#f",
        "https://u:p@x", "https://x y", "https://x:123456", "https://é", "https://x/é",
    ]),
]  # fmt: skip
# The same of secrets, which are not printed.
SECRETS_REFUSED: list[tuple[str, str, list[str]]] = [
    ("STANDARD_WEBHOOKS_SECRET", ".* accepted are ", [
        "a2V5", "whsec_", "whsec_a2V5 a2V5", "whsec_é", "whsec_a", "whpk_a2V5",
    ]),
    ("READ_TOKEN", ".* accepted are ", [
        "x" * 15, "two words of a token", "é" * 20, "a tab\tin the middle", "x" * 4097,
        os.fsdecode(b"\xff" * 20),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "says", "value"),
    [(*case, value) for *case, values in [*REFUSED, *SECRETS_REFUSED] for value in values],
    ids=lambda value: ascii(value)[:30],
)
def test_any_other_value_stops_the_start_and_is_named(name: str, says: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} {says}") as failure:
        config_of(**{name: value})

    if name in ("STANDARD_WEBHOOKS_SECRET", "READ_TOKEN"):
        assert value.removeprefix("whsec_") == "" or value not in str(failure.value)
        assert "a2V5" not in str(failure.value)


def test_options_of_a_database_url_are_refused_by_their_names() -> None:
    url = "sqlite+aiosqlite:////data/app.db?check_same_thread=false&timeout=7&uri"

    options = r"options \(check_same_thread, timeout, uri\): "
    with pytest.raises(ConfigError, match=options) as error:
        config_of(DATABASE_URL=url)

    assert "7" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("META_APP_SECRET", "META_VERIFY_TOKEN"),
        ("META_VERIFY_TOKEN", "META_APP_SECRET"),
        ("TWILIO_AUTH_TOKEN", "PUBLIC_URL"),
    ],
)
def test_half_of_a_providers_settings_stops_the_start(name: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=f"^{missing} is not set: {name} needs it"):
        config_of(**{name: "s", missing: ""})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "CHECKPOINTS is not litestream: ACK_AFTER=replica needs it"),
        ({"CHECKPOINTS": "service"}, "CHECKPOINTS is not litestream: ACK_AFTER=replica needs it"),
        ({"CHECKPOINTS": "litestream"}, "LITESTREAM_SOCKET is not set: ACK_AFTER=replica needs it"),
        *(
            ({"CHECKPOINTS": "litestream", "LITESTREAM_SOCKET": path}, "LITESTREAM_SOCKET is '")
            for path in ("litestream.sock", "@abstract", "/" + "x" * 107)
        ),
    ],
)
def test_an_acknowledgement_by_the_replica_needs_litestream(
    settings: dict[str, str], says: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{says}"):
        config_of(ACK_AFTER="replica", **settings)


def test_the_socket_alone_changes_no_acknowledgement() -> None:
    given = {"CHECKPOINTS": "litestream", "LITESTREAM_SOCKET": "/data/litestream.sock"}

    configs = [config_of(**given, **more) for more in ({}, {"ACK_AFTER": "disk"})]
    replica = config_of(**given, ACK_AFTER="replica")

    assert [config.ack_after_replica for config in (*configs, replica)] == [False, False, True]
    # Also then `restore` has to find out whether Litestream runs.
    assert {config.litestream_socket for config in configs} == {Path("/data/litestream.sock")}


SECRETS = ["WEBHOOK_SECRET", "WEBHOOK_SECRET_PREVIOUS", "READ_TOKEN"]


def test_no_secret_is_printed() -> None:
    names = [*SECRETS, "META_APP_SECRET", "META_VERIFY_TOKEN", "TWILIO_AUTH_TOKEN"]

    environ = {"TWILIO_API_KEY": "SK1:key-value", "PUBLIC_URL": "https://x"}
    config = config_of(**environ, **{name: f"{name}-value" for name in names})

    assert "-value" not in repr(config)


def read(environ: dict[str, str], name: str) -> object:
    given = environ if name == "WEBHOOK_SECRET" else {"WEBHOOK_SECRET": SECRET, **environ}
    return getattr(Config.from_env(given), name.lower())


IN_A_FILE = [
    *((name, b"in-a-file-of-one" + ending, "in-a-file-of-one")
      for name in SECRETS for ending in (b"", b"\n", b"\r\n", b"\n\n")),
    *((name, "in-a-file-of-one\r\n".encode("utf-8-sig"), "in-a-file-of-one") for name in SECRETS),
    *((name, b"\xffkey\n", os.fsdecode(b"\xffkey")) for name in SECRETS[:2]),
    ("WEBHOOK_SECRET_PREVIOUS", b"", ""), ("WEBHOOK_SECRET_PREVIOUS", b"\n", ""),  # which drops it
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "secret"), IN_A_FILE)
def test_a_secret_may_be_in_a_file(tmp_path: Path, name: str, content: bytes, secret: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)

    assert read({f"{name}_FILE": str(file), name: ""}, name) == secret


def test_a_secret_of_any_bytes_is_the_key() -> None:
    # As the interpreter decodes the environment of the process.
    config = Config.from_env({"WEBHOOK_SECRET": os.fsdecode(b"\xffkey")})

    # printf body | openssl dgst -sha256 -mac HMAC -macopt hexkey:ff6b6579
    assert sign(config.webhook_secret, b"body") == (
        "09bc56751fb3d0aa811ffe1d51eb6da2af281ad0352f78531ce56ddac8603169"
    )


@pytest.mark.parametrize("name", SECRETS)
def test_both_forms_of_a_secret_stop_the_start(tmp_path: Path, name: str) -> None:
    file = tmp_path / "secret"
    file.write_text("in-a-file")

    with pytest.raises(ConfigError, match=f"^{name} and {name}_FILE are both set") as failure:
        read({name: "told-to-nobody", f"{name}_FILE": str(file)}, name)

    assert "told-to-nobody" not in str(failure.value)


EMPTY = "the file is empty"
NO_SECRET: dict[str, tuple[bytes | Callable[[Any], object], str]] = {
    "missing": (lambda _file: None, "No such file or directory"),
    "two lines": (b"first\nsecond\n", "in one line"),
    "UTF-16": ("secret\n".encode("utf-16"), "in one line"),
    "long": (b"x" * 4097, "more than 4096 bytes"),
    "folder": (os.mkdir, "no regular file"), "pipe": (os.mkfifo, "no regular file"),
    "empty": (b"", EMPTY), "line end": (b"\n", EMPTY), "blank": (b" \n", EMPTY),
    "forbidden": (lambda file: file.touch(0), "Permission denied"),
}  # fmt: skip
if os.getuid() == 0:
    del NO_SECRET["forbidden"]  # root may read every file


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(("content", "reason"), NO_SECRET.values(), ids=NO_SECRET)
def test_a_file_without_a_secret_stops_the_start_and_is_named(
    tmp_path: Path, name: str, content: bytes | Callable[[Any], object], reason: str
) -> None:
    if name == "WEBHOOK_SECRET_PREVIOUS" and reason == EMPTY:
        return  # there is none then, see above
    file = tmp_path / "secret"
    file.write_bytes(content) if isinstance(content, bytes) else content(file)

    with pytest.raises(ConfigError, match=f"^{name}_FILE is '{file}': .*{reason}") as failure:
        read({f"{name}_FILE": str(file)}, name)

    assert "\n" not in str(failure.value)


def test_a_byte_order_mark_before_a_name_gives_way_to_the_environment() -> None:
    marked = {"\ufeffWEBHOOK_SECRET": "of a .env"}

    assert Config.from_env(marked).webhook_secret == "of a .env"
    for both in (marked | {"WEBHOOK_SECRET": SECRET}, {"WEBHOOK_SECRET": SECRET} | marked):
        assert Config.from_env(both).webhook_secret == SECRET


EVERY_SECRET = [*SECRETS, "META_APP_SECRET", "META_VERIFY_TOKEN", "TWILIO_AUTH_TOKEN",
                "STANDARD_WEBHOOKS_SECRET"]  # fmt: skip
ALL_SECRETS = dict.fromkeys(EVERY_SECRET, "whsec_MDEyMzQ1Njc4OWFiY2RlZg==")


@pytest.mark.parametrize("name", EVERY_SECRET)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_end_after_a_secret_does_not_belong_to_it(name: str, end: str) -> None:
    given = ALL_SECRETS | {"PUBLIC_URL": "https://x", name: ALL_SECRETS[name] + end}

    with_end, without = (
        Config.from_env(environ) for environ in (given, given | {name: ALL_SECRETS[name]})
    )

    assert with_end == without


@pytest.mark.parametrize("name", EVERY_SECRET)
@pytest.mark.parametrize("form", ["{} ", " {}", "\t{}", "{} \n", "\n{}", "{}\u00a0"])
def test_other_white_space_at_the_ends_of_a_secret_stops_the_start(
    tmp_path: Path, name: str, form: str
) -> None:
    file = tmp_path / "secret"
    file.write_text(form.format(ALL_SECRETS[name]))
    in_variable = {name: form.format(ALL_SECRETS[name])}
    in_file = {name: "", f"{name}_FILE": str(file)}
    for given in [in_variable] if name == "META_VERIFY_TOKEN" else [in_variable, in_file]:
        with pytest.raises(ConfigError, match=f"^{name}(_FILE)? ") as failure:
            Config.from_env(ALL_SECRETS | {"PUBLIC_URL": "https://x"} | given)

        assert "\n" not in str(failure.value)
        assert "whsec" not in str(failure.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WEBHOOK_SECRET_PREVIOUS", SECRET),
        ("META_APP_SECRET", "one one"),
        ("TWILIO_AUTH_TOKEN", "one two one"),
        ("STANDARD_WEBHOOKS_SECRET", "whsec_MDEy whsec_MDEy"),
    ],
)
def test_an_older_secret_that_is_the_current_one_is_noticed(name: str, value: str) -> None:
    needed = {"WEBHOOK_SECRET": SECRET, "META_VERIFY_TOKEN": "v", "PUBLIC_URL": "https://x"}
    if name != "META_APP_SECRET":
        del needed["META_VERIFY_TOKEN"]

    assert Config.from_env({**needed, name: value}).repeated_secrets == [name]
    assert Config.from_env({**needed, name: value.split()[0]}).repeated_secrets == (
        [name] if value == SECRET else []
    )


@pytest.mark.parametrize("name", [*SECRETS, "META_APP_SECRET", "META_VERIFY_TOKEN",
                                  "TWILIO_AUTH_TOKEN", "TWILIO_API_KEY"])  # fmt: skip
@pytest.mark.parametrize("form", ['"{}"', "'{}'", '"{} {}"', '{}"'])
def test_a_secret_with_a_quotation_mark_at_an_end_is_noticed(name: str, form: str) -> None:
    plain = "0123456789:abcdef"
    given = dict.fromkeys(EVERY_SECRET, "x" * 16) | {"STANDARD_WEBHOOKS_SECRET": ""}
    given |= {"PUBLIC_URL": "https://x", name: plain}
    quoted = given | {name: form.format(*[plain] * form.count("{}"))}
    if " " in form and name in ("READ_TOKEN", "TWILIO_API_KEY"):
        return  # refused

    assert Config.from_env(quoted).quoted_secrets == [name]
    assert Config.from_env(given | {name: "it's:" + plain}).quoted_secrets == []
