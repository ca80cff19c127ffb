"""What is installed: backends, record kinds, legacy sources, and what is wrong with plugins."""

from __future__ import annotations

from typing import Any

import typer

from gateway.cli.exits import ExitCode
from gateway.cli.output import print_json, print_line, print_table
from gateway.cli.session import Session
from gateway.config import denied_plugins
from gateway.records.kind import KindSpec
from gateway.records.registry import KindRegistry
from gateway.registry import ALL_GROUPS, PluginRegistry, discover

__all__ = ["show_kind", "show_kinds", "show_plugins"]


def show_plugins(session: Session, *, as_json: bool) -> ExitCode:
    """Print what is installed. Works with a configuration that does not: it may be what explains why."""
    deny = denied_plugins(env_file=session.env_file, overrides=session.overrides)
    registry = discover(deny=deny, groups=ALL_GROUPS)
    registry.extend_cli(
        typer.Typer()
    )  # nobody calls these commands; it is only to see whether a plugin fails
    found = _installed(registry)
    if as_json:
        print_json(found)
    else:
        _print_installed(found)
    return ExitCode.PROBLEM if registry.problems else ExitCode.OK


def _installed(registry: PluginRegistry) -> dict[str, Any]:
    backends = [
        {
            "name": name,
            "summary": plugin.spec.summary,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "capabilities": sorted(plugin.spec.capabilities),
        }
        for name, plugin in sorted(registry.backends.items())
    ]
    kinds = registry.kinds
    return {
        "backends": backends,
        "kinds": [{"name": kind.name, "source": kinds.source(kind.name)} for kind in kinds],
        "legacy_sources": [
            {"name": name, "summary": source.summary}
            for name, source in sorted(registry.legacy_sources.items())
        ],
        "problems": [
            {"name": one.name, "group": one.group, "distribution": one.distribution, "problem": one.sentence}
            for one in registry.problems
        ],
        "denied": list(registry.denied),
    }


def _print_installed(found: dict[str, Any]) -> None:
    columns = ("name", "version", "distribution", "capabilities", "summary")
    rows = [
        [", ".join(one[name]) if name == "capabilities" else one[name] for name in columns]
        for one in found["backends"]
    ]
    print_table(("backend", *columns[1:]), rows)
    print_line("")
    print_table(
        ("legacy source", "summary"), [(one["name"], one["summary"]) for one in found["legacy_sources"]]
    )
    print_line("")
    sources: dict[str, list[str]] = {}
    for one in found["kinds"]:
        sources.setdefault(one["source"], []).append(one["name"])
    print_table(("kinds of", "names"), [(source, ", ".join(names)) for source, names in sources.items()])
    for name in found["denied"]:
        print_line(f"denied by STORAGE_PLUGINS_DENY: {name}", "yellow")
    for one in found["problems"]:
        print_line(f"problem: {one['problem']}", "bold red")


def show_kinds(session: Session, *, as_json: bool) -> None:
    """Print every record kind on a line."""
    registry = session.registry.kinds
    found = [_kind(registry, kind) for kind in registry]
    if as_json:
        print_json({"kinds": found})
        return
    columns = ("name", "shape", "key", "time_field", "durability", "retention", "source")
    rows = [[", ".join(one["key"]) if name == "key" else one[name] for name in columns] for one in found]
    print_table(("kind", *(name.replace("_", " ") for name in columns[1:])), rows)


def show_kind(session: Session, name: str, *, as_json: bool) -> None:
    """Print one kind and its fields."""
    registry = session.registry.kinds
    kind = registry.get(name)
    found = {**_kind(registry, kind), "fields": _fields(kind)}
    if as_json:
        print_json(found)
        return
    print_line(name, "bold")
    for label in ("shape", "durability", "retention", "companion_of", "source"):
        if found[label] is not None:
            print_line(f"  {label.replace('_', ' ')}: {found[label]}")
    print_line(f"  listed by: {', '.join(found['order'])}")
    print_line("")
    columns = ("name", "type", "nullable", "key", "private")
    print_table(("field", *columns[1:]), [[one[name] for name in columns] for one in found["fields"]])


def _kind(registry: KindRegistry, kind: KindSpec) -> dict[str, Any]:
    return {
        "name": kind.name,
        "shape": kind.shape.value,
        "key": list(kind.key),
        "order": list(kind.order),
        "time_field": kind.time_field,
        "durability": kind.durability.value,
        "retention": None if kind.retention is None else f"{kind.retention.total_seconds() / 86_400:g} days",
        "companion_of": kind.companion_of,
        "source": registry.source(kind.name),
    }


def _fields(kind: KindSpec) -> list[dict[str, Any]]:
    return [
        {
            "name": spec.name,
            "type": spec.storage.value,
            "nullable": spec.nullable,
            "key": spec.name in kind.key,
            "private": spec.name in kind.comparison.redact,
        }
        for spec in kind.fields
    ]
