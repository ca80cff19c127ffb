"""`gateway phase`: where each kind stands between the old store and the new one, and moving it."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.options import AsJson, Kinds
from gateway.cli.session import session_of

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        no_args_is_help=True, help="Show or set where each kind stands between the two stores."
    )
    group.command()(show)
    group.command("set")(set_)
    app.add_typer(group, name="phase")


def show(
    context: typer.Context,
    history: Annotated[
        int,
        typer.Option(
            "--history", metavar="N", min=0, max=10_000, help="Show the latest N steps that were taken too."
        ),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Show each kind's phase, who decided it and why, and which running bots follow."""
    from gateway.cli.actions.phases import show_phases

    show_phases(session_of(context), history=history, as_json=as_json)


def set_(
    context: typer.Context,
    phase: Annotated[
        str,
        typer.Argument(
            metavar="PHASE",
            help="legacy, dual_write, shadow_read, cutover or complete; a neighbour of the present one.",
        ),
    ],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason; kept with the decision.")],
    kinds: Kinds = None,
    share: Annotated[
        str,
        typer.Option(
            "--share",
            metavar="PERCENT",
            help="Percent of the keys that the new store leads ahead of the phase, such as 25%.",
        ),
    ] = "0%",
    who: Annotated[
        str | None, typer.Option("--who", metavar="NAME", help="Who decides; by default the user who types.")
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            "--wait",
            metavar="SECONDS",
            min=0,
            max=3600,
            help="How long to wait until every running bot follows.",
        ),
    ] = 2.0,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Let the new store lead without proof that it agrees; kept with the decision."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Move all kinds, or some, to a neighbouring phase. Running bots follow within a second."""
    from gateway.cli.actions.phases import Step, set_phases

    step = Step(phase, tuple(kinds or ()), share, who, why, wait, force)
    raise typer.Exit(set_phases(session_of(context), step, as_json=as_json))
