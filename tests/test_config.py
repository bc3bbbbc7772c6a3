"""Settings: which values are accepted, and what happens with others."""

import os
from pathlib import Path

import pytest

from tests.builders import SECRET
from webhook_api.config import Config, ConfigError
from webhook_api.intake.signature import sign
from webhook_api.providers import providers_in_use


def test_only_the_secret_is_needed() -> None:
    config = Config.from_env({"WEBHOOK_SECRET": SECRET})

    assert config == Config(
        webhook_secret=SECRET,
        database_path=Path("data/app.db"),
        log_level="INFO",
        port=8000,
        max_body_bytes=262_144,
    )


@pytest.mark.parametrize("environ", [{}, {"WEBHOOK_SECRET": ""}], ids=["unset", "empty"])
def test_without_the_secret_there_is_no_start(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", "of the process")

    with pytest.raises(ConfigError, match="WEBHOOK_SECRET is not set") as failure:
        Config.from_env(environ)

    assert "\n" not in str(failure.value)


def test_the_environment_of_the_process_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", "from the process")

    assert Config.from_env().webhook_secret == "from the process"


def test_an_empty_variable_counts_as_unset() -> None:
    names = ["DATABASE_URL", "LOG_LEVEL", "PORT", "WEB_THREADS", "MAX_BODY_BYTES"]

    config = Config.from_env({"WEBHOOK_SECRET": SECRET} | dict.fromkeys(names, ""))

    assert config == Config(webhook_secret=SECRET)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///data/app.db", "data/app.db"),
        ("sqlite:////data/app.db", "/data/app.db"),
        ("sqlite:///app.db", "app.db"),
        ("  sqlite:///app.db \n", "app.db"),
        ("sqlite:///app.db?", "app.db"),
        ("sqlite+aiosqlite:////data/app.db", "/data/app.db"),
        ("sqlite+pysqlite:///app.db", "app.db"),
        ("sqlite:////with space/é%20#.db", "/with space/é%20#.db"),
    ],
)
def test_three_slashes_are_relative_and_four_absolute(url: str, path: str) -> None:
    config = Config.from_env({"WEBHOOK_SECRET": SECRET, "DATABASE_URL": url})

    assert config.database_path == Path(path)


@pytest.mark.parametrize(
    "url",
    [
        "postgres://localhost/app", "sqlite:", "sqlite://", "sqlite:///", "sqlite://data/app.db",
        "sqlite:///:memory:", "sqlite:///app.db?mode=ro", "data/app.db", "file:///data/app.db",
        "sqlite+:///app.db", "sqlite+aiosqlite:app.db", "postgresql+psycopg:///app", " ",
        "sqlite+aiosqlite:///:memory:", "sqlite:///?mode=ro",
    ],
)  # fmt: skip
def test_any_other_url_stops_the_start_and_says_what_is_accepted(url: str) -> None:
    with pytest.raises(ConfigError, match=r"DATABASE_URL .* sqlite:///relative") as failure:
        Config.from_env({"WEBHOOK_SECRET": SECRET, "DATABASE_URL": url})

    assert "sqlite:////absolute" in str(failure.value)


def test_options_of_a_database_url_are_refused_by_their_names() -> None:
    url = "sqlite+aiosqlite:////data/app.db?check_same_thread=false&timeout=7&uri"

    with pytest.raises(
        ConfigError, match=r"options \(check_same_thread, timeout, uri\): "
    ) as error:
        Config.from_env({"WEBHOOK_SECRET": SECRET, "DATABASE_URL": url})

    assert "7" not in str(error.value)


@pytest.mark.parametrize("url", ["sqlite:////", "sqlite:///.", "sqlite:////tmp/\udcff.db"])
def test_a_database_url_has_to_name_a_file_in_utf_8(url: str) -> None:
    with pytest.raises(ConfigError, match=r"DATABASE_URL .* name a file"):
        Config.from_env({"WEBHOOK_SECRET": "s", "DATABASE_URL": url})


@pytest.mark.parametrize("seconds", ["1_0", " 4 ", "nan", "1e1", "-1", "0.05", "61", ""])
def test_the_deadline_is_seconds_in_digits_and_in_range(seconds: str) -> None:
    environ = {"WEBHOOK_SECRET": "s", "COMMIT_DEADLINE_S": seconds}

    if seconds:
        with pytest.raises(ConfigError, match="COMMIT_DEADLINE_S"):
            Config.from_env(environ)
    else:
        assert Config.from_env(environ).commit_deadline_s == 4.0


@pytest.mark.parametrize(
    ("name", "level"),
    [
        *[(name, name) for name in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")],
        *[("WARN", "WARNING"), ("FATAL", "CRITICAL"), ("NOTSET", "DEBUG")],
        *[("debug", "DEBUG"), ("Info", "INFO"), ("warn", "WARNING")],
    ],
)
def test_pythons_names_of_log_levels_are_accepted_in_either_case(name: str, level: str) -> None:
    assert Config.from_env({"WEBHOOK_SECRET": SECRET, "LOG_LEVEL": name}).log_level == level


@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.1", "::1", "::"])
def test_an_address_to_listen_on_is_accepted(address: str) -> None:
    assert Config.from_env({"WEBHOOK_SECRET": SECRET, "BIND": address}).bind == address


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("LOG_LEVEL", value) for value in ("TRACE", "LOUD", "20", " INFO")],
        *[("PORT", value) for value in ("0", "65536", "-1", "8000 ", "http", "8e3", "８０００")],
        *[("BIND", value) for value in ("localhost", "127.0.0.1:8000", "127.1", "[::1]", "*")],
        *[("WEB_CONCURRENCY", value) for value in ("0", "65", "two")],
        *[("WEB_THREADS", value) for value in ("0", "1025", "1_0")],
        *[("MAX_BODY_BYTES", value) for value in ("0", "67108865", "1.5", "9" * 5000)],
        ("PORT", "00000000000000000065535999"),
        *[("COMMIT_DEADLINE_S", value) for value in ("0", "61", "nan", "inf", "soon")],
        *[("CHECKPOINTS", value) for value in ("Litestream", "none")],
        *[("RETENTION_DAYS", value) for value in ("-1", "36501", "90d", "1.5")],
        *[("READ_DEADLINE_S", value) for value in ("0", "61", "nan", "inf", "soon")],
    ],
)
def test_a_value_outside_its_range_stops_the_start_and_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is .* accepted are "):
        Config.from_env({"WEBHOOK_SECRET": SECRET, name: value})


def test_the_secret_is_not_printed() -> None:
    assert SECRET not in repr(Config(webhook_secret=SECRET))


def test_a_secret_of_any_bytes_is_the_key() -> None:
    # As the interpreter decodes the environment of the process.
    secret = os.fsdecode(b"\xffkey")

    config = Config.from_env({"WEBHOOK_SECRET": secret})

    # printf body | openssl dgst -sha256 -mac HMAC -macopt hexkey:ff6b6579
    assert sign(config.webhook_secret, b"body") == (
        "09bc56751fb3d0aa811ffe1d51eb6da2af281ad0352f78531ce56ddac8603169"
    )


def test_providers_are_off_by_default() -> None:
    assert providers_in_use(Config.from_env({"WEBHOOK_SECRET": SECRET})) == {}


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
        Config.from_env({"WEBHOOK_SECRET": SECRET, name: "s", missing: ""})


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://hooks.example.com", "https://hooks.example.com"),
        ("https://hooks.example.com/", "https://hooks.example.com"),
        ("http://localhost:8000/a/b/", "http://localhost:8000/a/b"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
    ],
)
def test_the_public_url_has_no_slash_at_its_end(url: str, base: str) -> None:
    environ = {"WEBHOOK_SECRET": SECRET, "TWILIO_AUTH_TOKEN": "s", "PUBLIC_URL": url}

    config = Config.from_env(environ)

    assert config.public_url == base
    assert providers_in_use(config)["twilio"].url == f"{base}/webhook/twilio"


@pytest.mark.parametrize(
    "url",
    ["hooks.example.com", "ftp://x", "https://", "https://x?a", "https://x/#f", "https://u:p@x",
     "https://x y", "https://x:123456", "https://é", "https://x/é"],
)  # fmt: skip
def test_a_public_url_that_cannot_be_signed_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^PUBLIC_URL is .* accepted are "):
        Config.from_env({"WEBHOOK_SECRET": SECRET, "PUBLIC_URL": url})


def test_several_standard_webhooks_secrets_may_be_in_use() -> None:
    # echo a2V5LW9uZQ== | base64 -d
    environ = {"WEBHOOK_SECRET": "s", "STANDARD_WEBHOOKS_SECRET": "whsec_a2V5LW9uZQ==  whsec_a2V5"}

    assert Config.from_env(environ).standard_webhooks_keys == ((b"key-one", ""), (b"key", ""))
    environ["STANDARD_WEBHOOKS_SECRET"] = "whsec_a2V5LW9uZQ"
    assert Config.from_env(environ).standard_webhooks_keys == ((b"key-one", ""),)


@pytest.mark.parametrize(
    "secret", ["a2V5", "whsec_", "whsec_a2V5 a2V5", "whsec_é", "whsec_a", "whpk_a2V5"]
)
def test_a_malformed_standard_webhooks_secret_stops_the_start_unprinted(
    secret: str,
) -> None:
    with pytest.raises(ConfigError, match=r"^STANDARD_WEBHOOKS_SECRET .* accepted are ") as failure:
        Config.from_env({"WEBHOOK_SECRET": SECRET, "STANDARD_WEBHOOKS_SECRET": secret})

    assert "a2V5" not in str(failure.value)


def test_no_secret_of_a_provider_is_printed() -> None:
    names = ["META_APP_SECRET", "META_VERIFY_TOKEN", "TWILIO_AUTH_TOKEN"]
    environ = {name: f"{name}-value" for name in names} | {"PUBLIC_URL": "https://x"}

    printed = repr(Config.from_env({"WEBHOOK_SECRET": SECRET, **environ}))

    assert "-value" not in printed


SECRETS = ["WEBHOOK_SECRET", "WEBHOOK_SECRET_PREVIOUS", "READ_TOKEN"]


def read(environ: dict[str, str], name: str) -> object:
    given = environ if name == "WEBHOOK_SECRET" else {"WEBHOOK_SECRET": SECRET, **environ}
    return getattr(Config.from_env(given), name.lower())


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(
    "content",
    [
        b"in-a-file-of-one", b"in-a-file-of-one\n", b"in-a-file-of-one\r\n",
        b"in-a-file-of-one\n\n", "in-a-file-of-one\r\n".encode("utf-8-sig"),
    ],
)  # fmt: skip
def test_a_secret_may_be_in_a_file(tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)

    assert read({f"{name}_FILE": str(file), name: ""}, name) == "in-a-file-of-one"


@pytest.mark.parametrize("name", SECRETS)
def test_both_forms_of_a_secret_stop_the_start(tmp_path: Path, name: str) -> None:
    file = tmp_path / "secret"
    file.write_text("in-a-file")

    with pytest.raises(ConfigError, match=f"^{name} and {name}_FILE are both set") as failure:
        read({name: "told-to-nobody", f"{name}_FILE": str(file)}, name)

    assert "told-to-nobody" not in str(failure.value)


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"), (b"", "the file is empty"),
        (b"\n", "the file is empty"), (b" \n", "the file is empty"),
        (b"first\nsecond\n", "in one line"),
        ("secret\n".encode("utf-16"), "in one line"), (b"x" * 4097, "more than 4096 bytes"),
        (os.mkdir, "no regular file"), (os.mkfifo, "no regular file"),
    ],
    ids=["missing", "empty", "line end", "blank", "two lines", "UTF-16", "long", "folder", "pipe"],
)  # fmt: skip
def test_a_file_without_a_secret_stops_the_start_and_is_named(
    tmp_path: Path, name: str, content: object, reason: str
) -> None:
    if name == "WEBHOOK_SECRET_PREVIOUS" and reason == "the file is empty":
        pytest.skip("it may be: there is none then")
    file = tmp_path / "secret"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif callable(content):
        content(file)

    with pytest.raises(ConfigError, match=f"^{name}_FILE is '{file}': .*{reason}") as failure:
        read({f"{name}_FILE": str(file)}, name)

    assert "\n" not in str(failure.value)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("secret")
    file.chmod(0)

    with pytest.raises(ConfigError, match=r"WEBHOOK_SECRET_FILE .* Permission denied"):
        Config.from_env({"WEBHOOK_SECRET_FILE": str(file)})


def test_a_secret_of_any_bytes_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"\xffkey\n")

    config = Config.from_env({"WEBHOOK_SECRET_FILE": str(file)})

    assert config.webhook_secret == os.fsdecode(b"\xffkey")


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


@pytest.mark.parametrize("token", ["x" * 15, "two words of this", "é" * 20, "x" * 4097])
def test_a_token_that_no_header_can_have_stops_the_start_and_is_not_printed(token: str) -> None:
    with pytest.raises(ConfigError, match=r"^READ_TOKEN .* accepted are ") as failure:
        Config.from_env({"WEBHOOK_SECRET": SECRET, "READ_TOKEN": token})

    assert token not in str(failure.value)


def test_no_secret_is_printed() -> None:
    config = Config(webhook_secret="told-1", webhook_secret_previous="told-2", read_token="told-3")

    assert "told" not in repr(config)


def test_a_previous_secret_is_dropped_by_emptying_its_file(tmp_path: Path) -> None:
    file = tmp_path / "previous"
    file.write_text("\n")

    config = Config.from_env({"WEBHOOK_SECRET": SECRET, "WEBHOOK_SECRET_PREVIOUS_FILE": str(file)})

    assert config.webhook_secret_previous == ""
