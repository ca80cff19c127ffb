"""`gateway plugins` and `gateway kinds`: what is installed."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.options import AsJson
from gateway.cli.session import session_of

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(plugins)
    app.command()(kinds)


def plugins(context: typer.Context, as_json: AsJson = False) -> None:
    """List the installed backends, record kinds and legacy sources, and what is wrong with plugins."""
    from gateway.cli.actions.installed import show_plugins

    raise typer.Exit(show_plugins(session_of(context), as_json=as_json))


def kinds(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help="Show the fields of this kind.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the record kinds, or the fields of one."""
    from gateway.cli.actions.installed import show_kind, show_kinds

    session = session_of(context)
    if name is None:
        show_kinds(session, as_json=as_json)
    else:
        show_kind(session, name, as_json=as_json)
