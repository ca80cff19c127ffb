"""`gateway get`, `gateway query` and `gateway stats`: looking into the stores, beside a running bot."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.options import AsJson, KindArgument, Order, Since, StoreName, Until, Where
from gateway.cli.session import session_of

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(get)
    app.command()(query)
    app.command()(stats)


def get(
    context: typer.Context,
    kind: KindArgument,
    key: Annotated[list[str], typer.Argument(metavar="KEY...", help="The parts of the key, in their order.")],
    store: StoreName = None,
    as_json: AsJson = False,
) -> None:
    """Show one record by its key. Exit code 1 if there is none."""
    from gateway.cli.actions.reading import show_record

    raise typer.Exit(show_record(session_of(context), kind, key, store, as_json=as_json))


def query(
    context: typer.Context,
    kind: KindArgument,
    where: Where = None,
    since: Since = None,
    until: Until = None,
    order: Order = "asc",
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="Records at most.")
    ] = 100,
    after: Annotated[
        str | None, typer.Option("--after", metavar="CURSOR", help="Go on where the last page ended.")
    ] = None,
    fields: Annotated[
        str | None, typer.Option("--fields", metavar="A,B,...", help="Only these fields, in this order.")
    ] = None,
    store: StoreName = None,
    as_json: AsJson = False,
) -> None:
    """List records: by time for logs, by key for the rest."""
    from gateway.cli.actions.listing import Listing
    from gateway.cli.actions.reading import show_records

    listing = Listing(kind, tuple(where or ()), since, until, order, store)
    show_records(session_of(context), listing, limit=limit, after=after, fields=fields, as_json=as_json)


def stats(context: typer.Context, as_json: AsJson = False) -> None:
    """Count the records of each kind in each store, with first and last time, and the stores' sizes."""
    from gateway.cli.actions.stats import show_stats

    raise typer.Exit(show_stats(session_of(context), as_json=as_json))
