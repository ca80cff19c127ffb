"""What exists is documented, and what is documented exists: variables, hooks, errors, kinds and more."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import gateway.errors
from gateway.backend import Capability
from gateway.catalogue import CATALOGUE
from gateway.hookspecs import BackendHooks, EventHooks, StartupHooks
from gateway.migration.phases import Phase
from gateway.records.builtin import BUILTIN_KINDS
from gateway.registry import ALL_GROUPS, PluginRegistry, discover
from gateway.settings import GatewaySettings

VARIABLE = re.compile(r"STORAGE_[A-Z0-9_]+(?![A-Z0-9_<*…])")
ALIASES = {"DATABASE_URL", "POSITION_BACKEND", "ENVIRONMENT", "RAILWAY_ENVIRONMENT"}
TEST_ONLY = ("STORAGE_TEST_", "STORAGE_BENCH_", "STORAGE_DEMO_")


@pytest.fixture(scope="module")
def registry() -> PluginRegistry:
    """What is installed."""
    return discover()


@pytest.fixture(scope="module")
def variables(registry: PluginRegistry) -> set[str]:
    """Every variable that is read."""
    own = {f"STORAGE_{field.upper()}" for field in GatewaySettings.model_fields}
    assert len(own) > 15
    backends = {
        f"STORAGE_{name}_{field}".upper()
        for name, plugin in registry.backends.items()
        for field in plugin.spec.settings.model_fields
    }
    assert {"STORAGE_SQLITE_URL", "STORAGE_JSON_URL"} <= backends
    return own | backends


def test_every_variable_is_documented(variables: set[str], root: Path) -> None:
    """docs/configuration.md knows each setting of the gateway and its backends, and each alias."""
    text = (root / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert sorted(name for name in variables | ALIASES if not re.search(rf"\b{name}\b", text)) == []


def test_every_variable_mentioned_exists(
    variables: set[str], pages: list[Any], registry: PluginRegistry
) -> None:
    """No page tells a user to set what nobody reads."""
    fields = {
        field.upper() for plugin in registry.backends.values() for field in plugin.spec.settings.model_fields
    }
    wrong = [
        f"{page}: {name}"
        for page in pages
        for name in set(VARIABLE.findall(page.text))
        if not name.endswith("_")
        and name not in variables
        and not _reserved(name)
        and not _of_instance(name, page.text, fields)
    ]
    assert sorted(wrong) == []


def _reserved(name: str) -> bool:
    to_come = tuple(f"STORAGE_{entry.name.upper()}_" for entry in CATALOGUE.values() if not entry.released)
    return name.startswith((*to_come, *TEST_ONLY))


def _of_instance(name: str, text: str, fields: set[str]) -> bool:
    """Tell whether a variable belongs to an instance that the same page names, as in `old=sqlite`."""
    instance, _, field = name.removeprefix("STORAGE_").partition("_")
    return field in fields and re.search(rf"\b{instance.lower()}=", text) is not None


def _hooks(owner: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(owner, inspect.isfunction) if name.startswith("gateway_")}


def test_every_hook_is_documented(everything: str) -> None:
    """Each hook of start-up, events and the data path stands in the documentation."""
    hooks = _hooks(StartupHooks) | _hooks(EventHooks) | _hooks(BackendHooks)
    assert len(hooks) > 10
    assert sorted(name for name in hooks if f"`{name}`" not in everything) == []


def test_every_hook_mentioned_exists(everything: str) -> None:
    """A name in code style that looks like a hook is one, or a plugin's package, or a role of a database."""
    hooks = _hooks(StartupHooks) | _hooks(EventHooks) | _hooks(BackendHooks)
    packages = {"gateway_json", "gateway_memory", "gateway_postgres", "gateway_sqlite", "gateway_yourstore"}
    roles = {"gateway_app", "gateway_readonly", "gateway_admin", "gateway_bot", "gateway_owner"}
    mentioned = set(re.findall(r"`(gateway_[a-z_]+)`", everything))
    assert mentioned - hooks - packages - roles == set()


def test_every_capability_is_documented(root: Path) -> None:
    """docs/backends.md explains each capability that a backend can declare."""
    text = (root / "docs" / "backends.md").read_text(encoding="utf-8")
    assert [
        capability.name
        for capability in Capability
        if capability.name not in text and capability.value not in text
    ] == []


def _errors() -> list[str]:
    """Return what can be raised; the module also names the protocol of what its errors carry."""
    return [name for name in gateway.errors.__all__ if issubclass(getattr(gateway.errors, name), Exception)]


def test_the_error_tree_is_the_real_one(root: Path) -> None:
    """docs/errors.md draws the tree of gateway/errors.py, each error below its parent."""
    (tree,) = re.findall(
        r"```\n(GatewayError\n.*?)```", (root / "docs" / "errors.md").read_text(encoding="utf-8"), re.DOTALL
    )
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in tree.splitlines():
        name = line.lstrip("│├└─ ")
        depth = (len(line) - len(name)) // 4
        path[depth:] = [name]
        drawn[name] = path[depth - 1] if depth else "Exception"
    real = {name: getattr(gateway.errors, name).__base__.__name__ for name in _errors()}
    assert drawn == real


def test_every_error_says_what_to_do(root: Path) -> None:
    """The table of docs/errors.md has a remedy for each error, and says truly if it is transient."""
    text = (root / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (yes|no) \|$", text, re.MULTILINE)
    table = {name: transient for name, _, _, transient in rows}
    assert {name: "yes" if getattr(gateway.errors, name).transient else "no" for name in _errors()} == table


def test_errors_mentioned_exist(everything: str) -> None:
    """No page speaks of an error that cannot be raised."""
    mentioned = set(re.findall(r"`([A-Z]\w+Error)`", everything))
    assert mentioned - set(_errors()) - {"ImportError", "KeyError", "TypeError", "ValueError"} == set()


def test_the_table_of_kinds_is_the_real_one(root: Path) -> None:
    """docs/records.md lists the built-in kinds as they are declared."""
    text = (root / "docs" / "records.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `([a-z_]+)` \| `(\w+)` \| (\w+) \| (.+?) \| (.+?) \| (\w+) \| (.+?) \|$", text, re.MULTILINE
    )
    declared = [
        (
            kind.name,
            kind.model.__name__,
            kind.shape.value,
            ", ".join(f"`{name}`" for name in kind.key),
            f"`{kind.time_field}`" if kind.time_field else "-",
            kind.durability.value,
            f"{kind.retention.days} days" if kind.retention else "-",
        )
        for kind in BUILTIN_KINDS
    ]
    assert rows == declared


def test_every_backend_is_in_the_readme(registry: PluginRegistry, root: Path) -> None:
    """The README's table names the backends that are installed, and no other."""
    text = (root / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE)
    assert sorted(rows) == sorted(registry.backends)


def test_every_phase_is_in_both_guides(root: Path) -> None:
    """Design and operations speak of each phase by its name."""
    for name in ("design.md", "operations.md"):
        text = (root / "docs" / name).read_text(encoding="utf-8")
        assert [phase.value for phase in Phase if phase.value not in text] == [], name


def test_entry_point_groups_are_documented(everything: str) -> None:
    """A third party finds the name of each group it can publish under."""
    assert [group for group in ALL_GROUPS if group not in everything] == []


def test_settings_describe_themselves() -> None:
    """Each setting has a sentence, which `gateway config` and the documentation show."""
    fields: Mapping[str, Any] = GatewaySettings.model_fields
    assert [
        name for name, field in fields.items() if not (field.description or "").endswith((".", "`."))
    ] == []
