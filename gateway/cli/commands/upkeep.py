"""`gateway backup`, `gateway restore` and `gateway maintain`: looking after the stores themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import AsJson
from gateway.cli.session import session_of

__all__ = ["add_to"]

Store = Annotated[
    str | None,
    typer.Option("--store", metavar="NAME", help="Only this store; by default every store that offers it."),
]
Directory = Annotated[
    Path | None,
    typer.Option(
        "--to", metavar="DIR", help="Directory of the backups; by default `backups` in the data directory."
    ),
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        no_args_is_help=False, invoke_without_command=True, help="Back the stores up, and check backups."
    )
    group.callback()(backup)
    group.command()(verify)
    group.command("list")(list_)
    app.add_typer(group, name="backup")
    app.command()(restore)
    app.command()(maintain)


def backup(
    context: typer.Context,
    store: Store = None,
    to: Directory = None,
    every: Annotated[
        str | None,
        typer.Option(
            "--every",
            metavar="INTERVAL",
            help="Go on, with a backup each 24h, 30m or 7d, until told to stop.",
        ),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep",
            metavar="N",
            min=1,
            max=100_000,
            help="Remove all but the newest N once a new one is verified.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Back the stores up while bots run, and verify each backup by the digests of its rows."""
    if context.invoked_subcommand is not None:
        if (store, to, every, keep, as_json) != (None, None, None, None, False):
            name = context.invoked_subcommand
            raise typer.BadParameter(f"write the options behind the command: gateway backup {name} ...")
        return
    from gateway.cli.actions.backups import Backing, back_up

    raise typer.Exit(back_up(session_of(context), Backing(store, to, every, keep), as_json=as_json))


def verify(context: typer.Context, file: File, as_json: AsJson = False) -> None:
    """Read a backup and check every row against its digest. Exit code 1 if anything is wrong with it."""
    from gateway.cli.actions.restoring import verify_backup

    raise typer.Exit(verify_backup(session_of(context), file, as_json=as_json))


def list_(context: typer.Context, store: Store = None, to: Directory = None, as_json: AsJson = False) -> None:
    """List the backups in the directory, the oldest of each store first."""
    from gateway.cli.actions.restoring import list_backups

    list_backups(session_of(context), store, to, as_json=as_json)


def restore(
    context: typer.Context,
    file: File,
    store: Annotated[
        str, typer.Option("--store", metavar="NAME", help="The store to fill. It must not hold any rows.")
    ],
    as_json: AsJson = False,
) -> None:
    """Fill an empty store from a backup, as a whole or not at all. Never writes over rows."""
    from gateway.cli.actions.restoring import restore_backup

    restore_backup(session_of(context), file, store, as_json=as_json)


def maintain(
    context: typer.Context,
    store: Store = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is due; change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Do the upkeep that is due: partitions, retention, vacuum, write-ahead logs. Bots may go on writing."""
    from gateway.cli.actions.maintenance import maintain_stores

    raise typer.Exit(maintain_stores(session_of(context), store, dry_run=dry_run, as_json=as_json))
