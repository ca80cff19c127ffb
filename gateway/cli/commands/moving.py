"""`gateway export` and `gateway import`: data out of the stores, and history of older systems into them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import AsJson, KindArgument, Order, Since, StoreName, Until, Where
from gateway.cli.session import session_of

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(export)
    app.command("import")(import_)


def export(
    context: typer.Context,
    kind: KindArgument,
    file_format: Annotated[
        str, typer.Option("--format", metavar="jsonl|csv", help="What to write.")
    ] = "jsonl",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Write to this file, which appears once it is whole; by default to the standard output.",
        ),
    ] = None,
    where: Where = None,
    since: Since = None,
    until: Until = None,
    order: Order = "asc",
    store: StoreName = None,
    as_json: AsJson = False,
) -> None:
    """Write all records of a kind, or some, as JSON lines or CSV, whatever their number."""
    from gateway.cli.actions.exporting import export_records
    from gateway.cli.actions.listing import Listing

    listing = Listing(kind, tuple(where or ()), since, until, order, store)
    export_records(session_of(context), listing, file_format, output, as_json=as_json)


def import_(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A legacy source, such as positions; see `gateway plugins`."),
    ],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Where it is. It is only read.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring in the history of an older system. What bots wrote since wins; repeating it changes nothing."""
    from gateway.cli.actions.importing import import_records

    raise typer.Exit(import_records(session_of(context), source, path, dry_run=dry_run, as_json=as_json))
