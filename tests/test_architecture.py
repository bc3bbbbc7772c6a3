"""The structure of the code: its routes, and what no module may do.

Which room may import from which is in .importlinter, where and how in .ruff.toml; `make check`
checks both.
"""

import ast
import re
from pathlib import Path

import pytest
from flask import Flask

import webhook_api

PACKAGE = Path(webhook_api.__file__).parent


@pytest.fixture(scope="module")
def modules() -> dict[str, ast.Module]:
    """All of our modules, by their names."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text())
        for path in PACKAGE.rglob("*.py")
    }


def test_the_routes_are_those_of_the_contract(app: Flask) -> None:
    routes = {
        (rule.rule, method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    assert routes >= {
        ("/webhook", "POST"), ("/messages", "GET"), ("/stats", "GET"), ("/health", "GET"),
        ("/health/live", "GET"), ("/health/ready", "GET"), ("/metrics", "GET"),
    }  # fmt: skip
    assert {path for path, _ in routes} <= {
        "/webhook", "/messages", "/messages/<id:message_id>", "/consumers",
        "/consumers/<name>", "/stats", "/health", "/health/live",
        "/health/ready", "/metrics", "/openapi.json", "/docs", "/docs/<path:filename>",
        "/", "/inbox", "/inbox/new", "/inbox/messages/<int:row_id>", "/inbox/login",
        "/inbox/logout", "/inbox/consumers",
    }  # fmt: skip
    assert {method for _, method in routes} == {"GET", "POST", "PUT", "DELETE"}
    assert set(app.blueprints) >= {"health", "webhook", "messages", "stats"}


def test_only_the_lock_hands_out_connections_that_may_write(
    modules: dict[str, ast.Module],
) -> None:
    made: dict[str, set[str]] = {
        "LockedConnection": set(), "unshared": set(), "open_unshared": set()
    }  # fmt: skip
    for module, tree in modules.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in made:
                made[ast.unparse(node.func)].add(module)

    assert made["LockedConnection"] == {"store.lock"}
    # A database in memory, or a copy that nobody else uses.
    assert made["unshared"] == {"store.schema", "store.lock"}
    assert made["open_unshared"] == {
        "maintenance.verify", "maintenance.restore", "maintenance.compaction",
        "maintenance.replica",
    }  # fmt: skip


def test_the_map_has_every_room_and_only_modules_that_exist() -> None:
    text = (PACKAGE / "README.md").read_text()
    named = set(re.findall(r"`((?:\.\./)?[\w./]+\.py|[\w/]+/)`", text))
    rooms = {path.name for path in PACKAGE.glob("*.py")}
    rooms |= {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}

    assert [name for name in named if name.endswith(".py") and not (PACKAGE / name).exists()] == []
    assert rooms - named == set()
