"""`gateway schema`: the tables of SQL stores."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.options import AsJson
from gateway.cli.session import session_of

__all__ = ["add_to"]

Store = Annotated[
    str | None,
    typer.Option("--store", metavar="NAME", help="Only this store; by default every store with a schema."),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Look at and change the schema of SQL stores.")
    for command in (current, check, upgrade, downgrade, sql, roles):
        group.command()(command)
    app.add_typer(group, name="schema")


def current(context: typer.Context, store: Store = None, as_json: AsJson = False) -> None:
    """Show which revision each store is at, and which one this gateway needs."""
    from gateway.cli.actions.schema import show_current

    show_current(session_of(context), store, as_json=as_json)


def check(context: typer.Context, store: Store = None, as_json: AsJson = False) -> None:
    """Say what is wrong with the schema. Exit code 1 if anything is."""
    from gateway.cli.actions.schema import check_schemas

    raise typer.Exit(check_schemas(session_of(context), store, as_json=as_json))


def upgrade(context: typer.Context, store: Store = None, as_json: AsJson = False) -> None:
    """Create what is missing and bring the schema up to date, in one transaction."""
    from gateway.cli.actions.schema import upgrade_schemas

    upgrade_schemas(session_of(context), store, as_json=as_json)


def downgrade(
    context: typer.Context,
    revision: Annotated[
        str,
        typer.Argument(metavar="REVISION", help="Where to stop, or `base`; BRANCH@REVISION for a package's."),
    ],
    store: Store = None,
    force: Annotated[bool, typer.Option("--force", help="Even if rows are lost.")] = False,
    as_json: AsJson = False,
) -> None:
    """Go back to an older revision. Refused where rows would be lost, unless forced."""
    from gateway.cli.actions.schema import downgrade_schemas

    downgrade_schemas(session_of(context), store, revision, force=force, as_json=as_json)


def sql(
    context: typer.Context,
    store: Store = None,
    start: Annotated[
        str, typer.Option("--from", metavar="REVISION", help="Revision to start at; `base` for a new store.")
    ] = "base",
) -> None:
    """Print the statements that an upgrade would run, for review."""
    from gateway.cli.actions.schema import print_sql

    print_sql(session_of(context), store, start)


def roles(context: typer.Context, store: Store = None) -> None:
    """Print the statements that make a server's roles, for review."""
    from gateway.cli.actions.schema import print_roles

    print_roles(session_of(context), store)
