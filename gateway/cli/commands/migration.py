"""`gateway copy` and `gateway verify`: history brought over, and the proof that two stores agree."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.options import AsJson, Kinds
from gateway.cli.session import session_of

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(copy)
    app.command()(verify)


def copy(
    context: typer.Context,
    kinds: Kinds = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="NAME", help="Store to read; by default the one that leads now."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--to", metavar="NAME", help="Store to write; by default the other one.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be copied; write nothing.")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate", metavar="ROWS", min=1, help="At most this many rows a second, for the sake of the bots."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy history from the store that leads each kind to the one that follows; repeat it as you like."""
    from gateway.cli.actions.copying import Copying, copy_kinds

    wanted = Copying(tuple(kinds or ()), source, target, dry_run, rate)
    raise typer.Exit(copy_kinds(session_of(context), wanted, as_json=as_json))


def verify(
    context: typer.Context,
    kinds: Kinds = None,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep", help="Check every row against its own digest too; works with one store as well."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the two stores by digests, and name the keys that differ and why. Exit code 1 if any do."""
    from gateway.cli.actions.verifying import verify_kinds

    raise typer.Exit(verify_kinds(session_of(context), tuple(kinds or ()), deep=deep, as_json=as_json))
