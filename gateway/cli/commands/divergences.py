"""`gateway divergences`: the differences that shadow reads found and that stayed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.options import AsJson
from gateway.cli.session import session_of

__all__ = ["add_to"]

Kind = Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only this kind.")]
Limit = Annotated[
    int,
    typer.Option("--limit", metavar="N", min=1, max=10_000, help="At most this many, the last seen first."),
]
State = Annotated[
    str,
    typer.Option(
        "--state", metavar="open|resolved|all", help="Those that need attention, the others, or all."
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        no_args_is_help=False, invoke_without_command=True, help="List what shadow reads found to differ."
    )
    group.callback()(divergences)
    group.command("list")(list_)
    group.command()(show)
    group.command()(export)
    group.command()(resolve)
    group.command()(clear)
    app.add_typer(group, name="divergences")


def _typed(context: Any, name: str) -> bool:
    """Tell whether an option was typed here, and did not take its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _given(context: typer.Context, **own: Any) -> dict[str, Any]:
    """Return options, those typed before the subcommand where the subcommand itself was given none.

    `gateway divergences --kind trades list` means what `gateway divergences list --kind trades` does.
    """
    parent = context.parent
    for name in own:
        if parent is not None and not _typed(context, name) and _typed(parent, name):
            own[name] = parent.params[name]
    return own


def divergences(
    context: typer.Context,
    kind: Kind = None,
    limit: Limit = 100,
    state: State = "open",
    as_json: AsJson = False,
) -> None:
    """List what shadow reads found to differ, the last seen first.

    Options that a command after it has as well may stand before it.
    """
    if context.invoked_subcommand is None:
        from gateway.cli.actions.divergences import list_divergences

        list_divergences(session_of(context), kind, limit, state, as_json=as_json)
        return
    _refuse_unheard(context, context.invoked_subcommand)


def _refuse_unheard(context: typer.Context, name: str) -> None:
    """Refuse options before a subcommand that it does not have: nothing that was typed is ignored."""
    group: Any = context.command
    heard = {parameter.name for parameter in group.commands[name].params}
    for parameter in group.params:
        if _typed(context, parameter.name) and parameter.name not in heard:
            raise typer.BadParameter(
                f"`gateway divergences {name}` has no such option; leave it out", param_hint=parameter.opts[0]
            )


def list_(
    context: typer.Context,
    kind: Kind = None,
    limit: Limit = 100,
    state: State = "open",
    as_json: AsJson = False,
) -> None:
    """List the divergences, the last seen first."""
    from gateway.cli.actions.divergences import list_divergences

    given = _given(context, kind=kind, limit=limit, state=state, as_json=as_json)
    list_divergences(session_of(context), **given)


def show(
    context: typer.Context,
    identity: Annotated[
        str, typer.Argument(metavar="ID", help="Its id in the list, or the beginning of it.")
    ],
    as_json: AsJson = False,
) -> None:
    """Show one divergence with both values of each field. Exit code 1 if there is none of that id."""
    from gateway.cli.actions.divergences import show_divergence

    given = _given(context, as_json=as_json)
    raise typer.Exit(show_divergence(session_of(context), identity, **given))


def export(
    context: typer.Context,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write to this file.")
    ] = None,
    file_format: Annotated[
        str, typer.Option("--format", metavar="jsonl|csv", help="JSON lines, or one row for each field.")
    ] = "jsonl",
    kind: Kind = None,
    state: State = "all",
) -> None:
    """Write divergences to a file or the standard output; what is private stays redacted."""
    from gateway.cli.actions.divergences import export_divergences

    given = _given(context, kind=kind, state=state)
    export_divergences(session_of(context), file_format=file_format, output=output, **given)


def resolve(
    context: typer.Context,
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason; kept with it.")],
    identities: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="Ids in the list, or the beginnings of them.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All that are open, or all of one kind with --kind.")
    ] = False,
    kind: Kind = None,
    who: Annotated[
        str | None, typer.Option("--who", metavar="NAME", help="By default the user who types.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Note that divergences need no attention any more. One that is found again is open again."""
    from gateway.cli.actions.resolving import resolve_divergences

    given = _given(context, kind=kind, as_json=as_json)
    chosen = tuple(identities or ())
    raise typer.Exit(
        resolve_divergences(session_of(context), chosen, who=who, why=why, everything=everything, **given)
    )


def clear(context: typer.Context, kind: Kind = None, as_json: AsJson = False) -> None:
    """Forget divergences, as after a repair: all of them, or those of a kind."""
    from gateway.cli.actions.resolving import clear_divergences

    clear_divergences(session_of(context), **_given(context, kind=kind, as_json=as_json))
