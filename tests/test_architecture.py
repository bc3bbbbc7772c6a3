"""The shape of the code: which routes there are, and which module may import which."""

import ast
from pathlib import Path

import pytest
from flask import Flask

import webhook_api

PACKAGE = Path(webhook_api.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
}
# A module imports those of ours that stand before it, never one behind.
ORDER = [
    "outcome", "schema", "errors", "config", "security", "models", "providers.delivery",
    "providers.meta", "providers.twilio", "providers.standard", "providers.description",
    "providers.__init__", "floods", "streams", "logs",
    "leases", "db", "lanes", "presence", "reading",
    "search", "counting", "stats", "listing", "storage", "writer", "waiting", "commit", "metrics",
    "server.framing", "server.outbox", "server.states", "server.register", "server.connections",
    "server.answering", "server.gunicorn_log", "server.files", "server.worker", "server.__init__",
    "server.metrics_folder", "server.refused", "cli",
    "routes.health", "routes.messages", "routes.stats", "routes.webhook", "routes.providers",
    "routes.__init__",
    "__init__",
]  # fmt: skip


def imports(module: str) -> set[str]:
    """Return the full names of the modules that `module` imports anywhere in it."""
    found = set()
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def of_ours(module: str) -> set[str]:
    """Return which of MODULES a module imports."""
    names = {name.removeprefix("webhook_api.") for name in imports(module)}
    packages = {"routes.__init__"} if "routes" in names and module == "__init__" else set()
    return (names & set(MODULES)) | packages


def test_the_routes_are_those_of_the_contract(app: Flask) -> None:
    routes = {
        (rule.rule, method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    assert routes >= {
        ("/webhook", "POST"),
        ("/messages", "GET"),
        ("/stats", "GET"),
        ("/health", "GET"),
        ("/health/live", "GET"),
        ("/health/ready", "GET"),
        ("/metrics", "GET"),
    }
    assert {path for path, _ in routes} <= {
        "/webhook", "/messages", "/stats", "/health", "/health/live", "/health/ready", "/metrics",
        "/openapi.json", "/docs", "/docs/<path:filename>",
    }  # fmt: skip
    assert {method for _, method in routes} == {"GET", "POST"}


def test_each_route_has_a_blueprint(app: Flask) -> None:
    assert set(app.blueprints) >= {"health", "webhook", "messages", "stats"}


@pytest.mark.parametrize(
    "module",
    [
        "security",
        "models",
        "search",
        "counting",
        "stats",
        "listing",
        "storage",
        "commit",
        "floods",
        "leases",
        "lanes",
        "presence",
        "reading",
        "schema",
        "config",
        "providers.__init__",
        "providers.delivery",
        "providers.meta",
        "providers.twilio",
        "providers.standard",
    ],
)
def test_what_is_not_about_http_knows_no_flask(module: str) -> None:
    assert not {name for name in imports(module) if name.split(".")[0] in {"flask", "werkzeug"}}


@pytest.mark.parametrize("module", MODULES)
def test_only_config_reads_the_environment(module: str) -> None:
    read = {
        ast.unparse(node)
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.getenv"}
    }

    assert bool(read) == (module == "config")
    assert not imports(module) & {"os.environ", "os.getenv"}


@pytest.mark.parametrize("module", sorted(set(MODULES) & set(ORDER)))
def test_imports_point_one_way(module: str) -> None:
    before = ORDER[: ORDER.index(module)]

    behind = of_ours(module) & set(ORDER) - set(before)

    assert behind <= {module}


def test_only_metrics_knows_prometheus() -> None:
    knowing = {m for m in MODULES if any(name.startswith("prometheus") for name in imports(m))}

    assert knowing == {"metrics"}


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(MODULES[module])


@pytest.mark.parametrize("module", MODULES)
def test_imports_stand_at_the_top(module: str) -> None:
    within = [
        node
        for function in ast.walk(MODULES[module])
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]

    assert within == []
