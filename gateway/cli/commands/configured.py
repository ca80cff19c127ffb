"""`gateway config`: what the settings are and where they come from."""

from __future__ import annotations

import typer

from gateway.cli.options import AsJson
from gateway.cli.session import session_of

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(config)


def config(context: typer.Context, as_json: AsJson = False) -> None:
    """Show every setting with where it came from, and what decides the phase of each kind."""
    from gateway.cli.actions.configured import show_config

    raise typer.Exit(show_config(session_of(context), as_json=as_json))
