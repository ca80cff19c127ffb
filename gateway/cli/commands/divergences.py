"""`gateway divergences`: the differences that shadow reads found and that stayed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import AsJson
from gateway.cli.session import session_of

__all__ = ["add_to"]

Kind = Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only this kind.")]
Limit = Annotated[
    int,
    typer.Option("--limit", metavar="N", min=1, max=10_000, help="At most this many, the last seen first."),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        no_args_is_help=False, invoke_without_command=True, help="List what shadow reads found to differ."
    )
    group.callback()(divergences)
    group.command("list")(list_)
    group.command()(show)
    group.command()(export)
    group.command()(clear)
    app.add_typer(group, name="divergences")


def divergences(
    context: typer.Context, kind: Kind = None, limit: Limit = 100, as_json: AsJson = False
) -> None:
    """List what shadow reads found to differ, the last seen first."""
    if context.invoked_subcommand is None:
        list_(context, kind, limit, as_json)


def list_(context: typer.Context, kind: Kind = None, limit: Limit = 100, as_json: AsJson = False) -> None:
    """List the divergences, the last seen first."""
    from gateway.cli.actions.divergences import list_divergences

    list_divergences(session_of(context), kind, limit, as_json=as_json)


def show(
    context: typer.Context,
    identity: Annotated[
        str, typer.Argument(metavar="ID", help="Its id in the list, or the beginning of it.")
    ],
    as_json: AsJson = False,
) -> None:
    """Show one divergence with both values of each field. Exit code 1 if there is none of that id."""
    from gateway.cli.actions.divergences import show_divergence

    raise typer.Exit(show_divergence(session_of(context), identity, as_json=as_json))


def export(
    context: typer.Context,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write to this file.")
    ] = None,
    kind: Kind = None,
) -> None:
    """Write all divergences as JSON lines."""
    from gateway.cli.actions.divergences import export_divergences

    export_divergences(session_of(context), kind, output)


def clear(context: typer.Context, as_json: AsJson = False) -> None:
    """Forget all divergences, as after a repair."""
    from gateway.cli.actions.divergences import clear_divergences

    clear_divergences(session_of(context), as_json=as_json)
