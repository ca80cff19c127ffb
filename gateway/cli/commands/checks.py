"""`gateway doctor`, `gateway health` and `gateway demo`: is everything well, and what does it look like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import AsJson
from gateway.cli.session import session_of

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(doctor)
    app.command()(health)
    app.command()(demo)


def doctor(context: typer.Context, as_json: AsJson = False) -> None:
    """Check stores, schemas, disk, permissions, clock and control store. Exit code 1 if a check fails."""
    from gateway.cli.actions.doctor import examine

    raise typer.Exit(examine(session_of(context), as_json=as_json))


def health(
    context: typer.Context,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0.01,
            max=3600,
            help="A store that has not answered by then is down.",
        ),
    ] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Ask every store whether it answers, and how fast. Exit code 3 if one does not."""
    from gateway.cli.actions.health import show_health

    raise typer.Exit(show_health(session_of(context), timeout=timeout, as_json=as_json))


def demo(
    fast: Annotated[bool, typer.Option("--fast", help="Keep the pauses short.")] = False,
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep", metavar="DIR", help="Work in this directory and keep it, to look around in it."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="Recorded data to replay, or `generated`; by default what is found."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the generated market.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Watch a trading bot move from JSON files to SQLite while it trades, and survive a kill -9."""
    from gateway.demo import main

    raise typer.Exit(main(fast=fast, keep=keep, data=data, seed=seed, json_output=as_json))
