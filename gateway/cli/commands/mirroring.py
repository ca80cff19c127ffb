"""`gateway mirror`: what has yet to reach the mirrors, and holding one back or waiting for it."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.options import AsJson
from gateway.cli.session import session_of

__all__ = ["add_to"]

Target = Annotated[str, typer.Argument(metavar="STORE", help="The store that is the mirror, by its name.")]
Who = Annotated[
    str | None, typer.Option("--who", metavar="NAME", help="Who decides; by default the user who types.")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        no_args_is_help=True, help="Look at what has yet to reach a mirror; hold it back, or wait for it."
    )
    for command in (status, pause, resume, drain, forget):
        group.command()(command)
    app.add_typer(group, name="mirror")


def status(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until interrupted.")] = False,
    interval: Annotated[
        float,
        typer.Option(
            "--interval", metavar="SECONDS", min=0.1, max=3600, help="Time between two looks of --watch."
        ),
    ] = 1.0,
    every: Annotated[
        bool, typer.Option("--all", help="Show the ways that no kind takes at present, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show for each mirror how it is written, what waits for it and for how long, and whether something is wrong.

    Exit code 1 if something is, 3 if it cannot be known.
    """
    from gateway.cli.actions.mirroring import show_status, watch_status

    session = session_of(context)
    if watch:
        raise typer.Exit(watch_status(session, interval, every=every, as_json=as_json))
    raise typer.Exit(show_status(session, every=every, as_json=as_json))


def pause(
    context: typer.Context,
    target: Target,
    why: Annotated[
        str, typer.Option("--why", metavar="TEXT", help="The reason; everybody who looks sees it.")
    ],
    who: Who = None,
    as_json: AsJson = False,
) -> None:
    """Hold a mirror back: every bot stops writing it within about a second, and what it misses is kept."""
    from gateway.cli.actions.pausing import pause_mirror

    pause_mirror(session_of(context), target, why, who, as_json=as_json)


def resume(context: typer.Context, target: Target, as_json: AsJson = False) -> None:
    """Let a mirror be written again; it gets what it missed."""
    from gateway.cli.actions.pausing import resume_mirror

    resume_mirror(session_of(context), target, as_json=as_json)


def drain(
    context: typer.Context,
    target: Annotated[
        str | None, typer.Argument(metavar="[STORE]", help="Only this mirror; by default every one.")
    ] = None,
    timeout: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", min=0, max=86_400, help="How long to wait at most."),
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Wait until nothing is left that has yet to reach a mirror. Where no bot hands it over, this command does.

    Exit code 1 if something was left after the timeout.
    """
    from gateway.cli.actions.draining import drain_mirrors

    raise typer.Exit(drain_mirrors(session_of(context), target, timeout, as_json=as_json))


def forget(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(metavar="STORE", help="The name of a store that is configured no more.")
    ],
    as_json: AsJson = False,
) -> None:
    """Drop what waits for a mirror that is not configured any more, or under another name."""
    from gateway.cli.actions.pausing import forget_mirror

    forget_mirror(session_of(context), target, as_json=as_json)
