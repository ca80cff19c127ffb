"""`gateway cache`: whether the cache in front of the stores is in use, and beginning it anew."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.options import AsJson
from gateway.cli.session import session_of

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Look at the cache in front of the stores, and empty it.")
    group.command()(status)
    group.command()(clear)
    app.add_typer(group, name="cache")


def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Show whether the cache may be used, since when, and whether its server answers. Exit code 1 if it is not used."""
    from gateway.cli.actions.caching import show_status

    raise typer.Exit(show_status(session_of(context), as_json=as_json))


def clear(
    context: typer.Context,
    forget: Annotated[
        bool,
        typer.Option("--forget", help="The stores are to have no cache any more: forget that they had one."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Close the cache for every bot. They open it again after a while, and then it is empty."""
    from gateway.cli.actions.caching import clear_cache

    clear_cache(session_of(context), forget=forget, as_json=as_json)
