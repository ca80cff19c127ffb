"""The schemas of the stores that have one: their revisions, upgrades and downgrades."""

from __future__ import annotations

from typing import Any

from gateway.backend import Capability
from gateway.cli.exits import ExitCode
from gateway.cli.output import print_json, print_line, print_table
from gateway.cli.session import Session
from gateway.config import StoreConfig, open_context
from gateway.errors import CapabilityError
from gateway.upkeep import StoreRoles, StoreSchema

__all__ = [
    "check_schemas",
    "downgrade_schemas",
    "print_roles",
    "print_sql",
    "schema_of",
    "show_current",
    "upgrade_schemas",
]


def schema_of(session: Session, store: StoreConfig) -> StoreSchema:
    """Return the schema of a store, without opening the store.

    Raises:
        CapabilityError: The backend has none, or does not say how to reach it.
    """
    if Capability.SCHEMA not in store.spec.capabilities:
        raise CapabilityError(
            f"{store.instance}: the {store.spec.name} backend has no schema; there is nothing to do"
        )
    if store.spec.schema is None:
        raise CapabilityError(
            f"{store.instance}: the {store.spec.name} backend declares a schema and does not say how to reach it; "
            "report it to its author"
        )
    return store.spec.schema(open_context(session.configuration, store, tuple(session.registry.kinds)))


def _schemas(session: Session, name: str | None) -> list[tuple[str, StoreSchema]]:
    """Return the schemas meant: of the named store, or of every store that has one.

    Raises:
        ConfigurationError: There is no store of that name.
        CapabilityError: It has no schema, or no store has.
    """
    if name is not None:
        return [(name, schema_of(session, session.configuration.store(name)))]
    found = [
        (store.instance, schema_of(session, store))
        for store in session.configuration.stores
        if Capability.SCHEMA in store.spec.capabilities
    ]
    if not found:
        raise CapabilityError(
            f"no store has a schema ({', '.join(session.instances)}); there is nothing to do"
        )
    return found


def show_current(session: Session, name: str | None, *, as_json: bool) -> None:
    """Print the revision of each store, and of each branch that another package ships."""
    found = [_state(store, schema) for store, schema in _schemas(session, name)]
    if as_json:
        print_json({"schemas": found})
        return
    rows = [
        (one["store"], line["branch"], line["current"] or "none", line["head"] or line["problem"])
        for one in found
        for line in ({"branch": "", "problem": "", **one}, *one["branches"])
    ]
    print_table(("store", "branch", "revision", "needed"), rows)


def _state(store: str, schema: StoreSchema) -> dict[str, Any]:
    branches = [
        {
            "branch": one.name,
            "owner": one.owner,
            "current": one.current,
            "head": one.head,
            "problem": one.problem,
        }
        for one in schema.branches()
    ]
    return {"store": store, "current": schema.current(), "head": schema.head(), "branches": branches}


def check_schemas(session: Session, name: str | None, *, as_json: bool) -> ExitCode:
    """Print what is wrong with each schema."""
    found = [{"store": store, "problems": schema.check()} for store, schema in _schemas(session, name)]
    if as_json:
        print_json({"schemas": found})
    else:
        for one in found:
            for problem in one["problems"]:
                print_line(f"{one['store']}: {problem}", "bold red")
            if not one["problems"]:
                print_line(f"{one['store']}: the schema is what the registered kinds need", "green")
    return ExitCode.PROBLEM if any(one["problems"] for one in found) else ExitCode.OK


def upgrade_schemas(session: Session, name: str | None, *, as_json: bool) -> None:
    """Upgrade each schema, and print what was done."""
    _print_done([(store, schema.upgrade()) for store, schema in _schemas(session, name)], as_json=as_json)


def downgrade_schemas(
    session: Session, name: str | None, revision: str, *, force: bool, as_json: bool
) -> None:
    """Downgrade each schema, and print what went."""
    done = [(store, schema.downgrade(revision, force=force)) for store, schema in _schemas(session, name)]
    _print_done(done, as_json=as_json)


def print_sql(session: Session, name: str | None, start: str) -> None:
    """Print the statements of an upgrade."""
    for store, schema in _schemas(session, name):
        print_line(f"-- {store}")
        print_line(schema.sql(start).rstrip())


def print_roles(session: Session, name: str | None) -> None:
    """Print the statements that make the roles of each store that has roles.

    Raises:
        CapabilityError: The named store has none, or no store has.
    """
    found = [(store, schema) for store, schema in _schemas(session, name) if isinstance(schema, StoreRoles)]
    if not found:
        raise CapabilityError(
            f"no roles are known to {name or ', '.join(session.instances)}: they belong to a database server; who may "
            "use a file is decided by its permissions"
        )
    for store, schema in found:
        print_line(f"-- {store}")
        print_line(schema.roles().rstrip())


def _print_done(done: list[tuple[str, list[str]]], *, as_json: bool) -> None:
    if as_json:
        print_json({"schemas": [{"store": store, "done": steps} for store, steps in done]})
        return
    for store, steps in done:
        for step in steps or ["nothing to do"]:
            print_line(f"{store}: {step}")
