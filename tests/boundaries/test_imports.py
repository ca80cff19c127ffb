"""Who may import whom: plugins see public names, the core sees no plugin, arrows point down."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import Any

import pytest

LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "errors",
        "budget",
        "own_file",
        "redaction",
        "catalogue",
        "deadlines",
        "keepalive",
        "unfinished",
        "hookspecs",
        "telemetry",
        "findings",
        "upkeep",
    ),
    ("records", "legacy", "fields"),
    # Decisions: pure, no I/O.
    (
        "query",
        "intents",
        "migration.phases",
        "modes",
        "routing",
        "places",
        "shadow.sampling",
        "compare",
        "shadow.sights",
        "migration.decisions",
        "filters",
        "changes",
    ),
    ("columns", "candles", "series", "frames", "frames_input"),
    ("guard", "locations"),
    # The contract, and what helps to keep it.
    (
        "backend",
        "cache.contract",
        "cache.permit",
        "cache.breaker",
        "cache.sampling",
        "cache.reports",
        "answers",
        "api",
        "market_api",
        "sql",
        "drafts",
        "dump",
        "backups",
        "retention",
    ),
    # Talking to stores, and what is decided about them.
    (
        "dispatch",
        "divergences",
        "journal",
        "late",
        "mirror",
        "shadow",
        "lanes",
        "reads",
        "cache",
        "buffer",
        "migration",
    ),
    (
        "engine",
        "gauges",
        "bulk",
        "calls",
        "market_calls",
        "series_calls",
        "bot_calls",
    ),
    # From what the user wrote to what is opened.
    (
        "vetting",
        "origins",
        "registry",
        "settings",
        "variables",
        "stores",
        "provenance",
        "concerns",
        "kind_settings",
        "config",
    ),
    ("cache.opening",),
    ("gateway", "sync"),
    # People's side: each stands alone.
    ("cli", "conformance", "demo"),
)
"""Bottom first. A module may import its own layer and those below. The longest prefix of a name counts."""

PURE = (
    "query",
    "migration.phases",
    "modes",
    "routing",
    "places",
    "shadow.sampling",
    "compare",
    "shadow.sights",
    "migration.decisions",
    "filters",
    "changes",
    "columns",
    "candles",
    "series",
    "frames_input",
    "guard",
    "locations",
)
"""Decide and return what to do; somebody else does it."""

IO_MODULES = {
    "asyncio",
    "concurrent",
    "io",
    "os",
    "pathlib",
    "shutil",
    "socket",
    "sqlite3",
    "subprocess",
    "threading",
}

HOMES: dict[str, tuple[str, ...]] = {
    "aiosqlite": ("gateway_sqlite",),
    "alembic": ("gateway.sql", "gateway_sqlite", "gateway_postgres"),
    "anyio": ("gateway.conformance",),
    "asyncpg": ("gateway_postgres", "gateway_questdb"),
    "hypothesis": ("gateway.conformance",),
    "opentelemetry": ("gateway.telemetry",),
    "orjson": ("gateway_json",),
    "pytest": ("gateway.conformance",),
    "questdb": ("gateway_questdb",),
    "rich": ("gateway.cli", "gateway.demo"),
    "prometheus_client": ("gateway.telemetry",),
    "psycopg": ("gateway_postgres",),
    "pyarrow": ("gateway.frames", "gateway_questdb"),
    "sqlalchemy": ("gateway.sql", "gateway_sqlite", "gateway_postgres"),
    "typer": ("gateway.cli",),
}
"""Where packages of extras may be imported, even lazily."""


def _inside(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _layer(name: str) -> int | None:
    """Return a module's layer, by the longest entry that covers it; None for the package itself."""
    short = name.removeprefix("gateway").lstrip(".")
    entries = [(entry, number) for number, layer in enumerate(LAYERS) for entry in layer]
    covering = [(len(entry), number) for entry, number in entries if _inside(short, (entry,))]
    return max(covering)[1] if covering else None


def _arrows(modules: dict[str, Any]) -> dict[str, set[str]]:
    """Return what each module imports of the others; `from gateway import x` leads to the module x."""
    arrows: dict[str, set[str]] = {}
    for module in modules.values():
        named = ((f"{item.module}.{item.name}", item.module) for item in module.imports())
        arrows[module.name] = {full if full in modules else owner for full, owner in named} & set(modules)
    return arrows


def test_every_module_has_a_layer(sources: Any) -> None:
    """A new module of the core says where it stands by an entry in LAYERS."""
    modules = sources.modules("gateway")
    homeless = [
        name for name in modules if name not in {"gateway", "gateway.migration"} and _layer(name) is None
    ]
    assert homeless == []
    stale = [entry for layer in LAYERS for entry in layer if f"gateway.{entry}" not in modules]
    assert set(stale) <= {"demo", "cli"}, "an entry of LAYERS names no module"


def test_arrows_point_down(sources: Any) -> None:
    """No module of the core imports one of a higher layer, lazily neither."""
    upward = [
        f"{name} imports {target}"
        for name, targets in _arrows(sources.modules("gateway")).items()
        for target in targets
        if name != "gateway" and target != "gateway" and (_layer(target) or 0) > (_layer(name) or 0)
    ]
    assert upward == []


def test_the_three_on_top_stand_alone(sources: Any) -> None:
    """Command line, conformance kit and demo do not need each other, but the CLI starts the demo."""
    tops = ("cli", "conformance", "demo")
    across = [
        (name, target)
        for name, targets in _arrows(sources.modules("gateway")).items()
        for target in targets
        for own in tops
        if _inside(name, (f"gateway.{own}",))
        and _inside(target, tuple(f"gateway.{other}" for other in tops if other != own))
        and not (own == "cli" and _inside(target, ("gateway.demo",)))
    ]
    assert across == []


def test_no_import_cycles(sources: Any) -> None:
    """The core can be read from the bottom up: no two modules need each other."""
    try:
        order = list(TopologicalSorter(_arrows(sources.modules("gateway"))).static_order())
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")
    assert order.index("gateway.errors") < order.index("gateway.gateway")


def test_decisions_do_no_io(sources: Any) -> None:
    """Modules that decide import nothing that could wait, read or write."""
    modules = sources.modules("gateway")
    impure = [
        (name, item.module)
        for name in PURE
        for item in modules[f"gateway.{name}"].imports()
        if item.module.split(".")[0] in IO_MODULES
    ]
    assert impure == []


def test_the_core_imports_no_plugin(sources: Any) -> None:
    """Nothing under gateway/ knows a plugin by its module."""
    plugins = set(sources.plugins)
    found = [
        (module.name, item.module)
        for module in sources.modules("gateway").values()
        for item in module.imports(type_only=True)
        if item.module.split(".")[0] in plugins
    ]
    assert found == []


def test_plugins_import_public_names_only(sources: Any) -> None:
    """A plugin uses what stands in `__all__` of a gateway module, as a third party would."""
    assert _private_names(sources, [f"plugins/{plugin}" for plugin in sources.plugins]) == []


def test_what_third_parties_copy_needs_public_names_only(sources: Any) -> None:
    """What lies under contrib/ was written as if from outside."""
    packages = [
        path.relative_to(sources.root).as_posix()
        for path in (sources.root / "contrib").glob("*/src/*")
        if (path / "__init__.py").is_file()
    ]
    assert packages
    assert _private_names(sources, packages) == []


def _private_names(sources: Any, directories: list[str]) -> list[str]:
    core = sources.modules("gateway")
    return [
        f"{module.name}:{item.line} from {item.module} import {item.name}"
        for directory in directories
        for module in sources.modules(directory).values()
        for item in module.imports(type_only=True)
        if item.module.split(".")[0] == "gateway" and not _public(item, core)
    ]


def _public(item: Any, core: dict[str, Any]) -> bool:
    if item.name is None:  # `import gateway.x` would let any attribute through
        return False
    if f"{item.module}.{item.name}" in core:
        return not item.name.startswith("_")
    return item.module in core and item.name in core[item.module].public


def test_plugins_import_no_other_plugin(sources: Any) -> None:
    """Each plugin stands on the core alone."""
    plugins = set(sources.plugins)
    found = [
        (module.name, item.module)
        for plugin in plugins
        for module in sources.modules(f"plugins/{plugin}").values()
        for item in module.imports(type_only=True)
        if item.module.split(".")[0] in plugins - {plugin}
    ]
    assert found == []


def test_extras_stay_where_they_belong(sources: Any) -> None:
    """An extra's packages are imported only where they belong; OpenTelemetry only by telemetry.py."""
    modules = sources.modules("gateway", *(f"plugins/{plugin}" for plugin in sources.plugins))
    strays = [
        f"{module.name} imports {item.module}"
        for module in modules.values()
        for item in module.imports()
        if (top := item.module.split(".")[0]) in HOMES and not _inside(module.name, HOMES[top])
    ]
    assert strays == []


def test_absolute_imports_only(sources: Any) -> None:
    """Imports name their module in full, so that these tests see them all."""
    modules = sources.modules("gateway", *(f"plugins/{plugin}" for plugin in sources.plugins))
    relative = [
        (module.name, item.line)
        for module in modules.values()
        for item in module.imports()
        if item.module == "."
    ]
    assert relative == []
