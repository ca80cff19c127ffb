"""The command line put together: commands, options that hold for all of them, and what plugins add."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from gateway import __version__
from gateway.cli.commands import (
    caching,
    checks,
    configured,
    divergences,
    installed,
    migration,
    mirroring,
    moving,
    phases,
    reading,
    schema,
    upkeep,
)
from gateway.cli.exits import ExitCode, abandon_output, code_of, report, report_error
from gateway.cli.session import ENV_FILE, Session
from gateway.errors import GatewayError

__all__ = ["make_app", "run"]

_JSON: Final = "--json"
_GROUPS: Final = (
    installed,
    configured,
    checks,
    schema,
    reading,
    moving,
    phases,
    migration,
    divergences,
    mirroring,
    upkeep,
    caching,
)
_PLUGINS: Final = "storage_gateway.cli"


class GatewayCommands(TyperGroup):
    """The root of all commands. Errors of the gateway end here, whichever command they come from."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep what was typed: whether errors are to be JSON must be known even where parsing it fails."""
        ctx.meta[_JSON] = _JSON in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an error of the gateway becomes one sentence and an exit code."""
        as_json = bool(ctx.meta.get(_JSON))
        try:
            return super().invoke(ctx)
        except GatewayError as error:
            code = report_error(error, as_json=as_json, debug=bool(ctx.params.get("debug")))
            raise typer.Exit(code) from error
        except BrokenPipeError as error:
            abandon_output()
            raise typer.Exit(ExitCode.CUT_OFF) from error
        except KeyboardInterrupt as error:
            report(
                "Interrupted",
                "interrupted; what was stored so far stays",
                ExitCode.INTERRUPTED,
                as_json=as_json,
            )
            raise typer.Exit(ExitCode.INTERRUPTED) from error
        except Exception as error:
            # Usage errors, whose class typer keeps private; it draws them in a frame, which no script reads.
            sentence = getattr(error, "format_message", None)
            if not as_json or sentence is None:
                raise
            report("UsageError", sentence(), ExitCode.USAGE, as_json=True)
            raise typer.Exit(ExitCode.USAGE) from error


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"storage-gateway {__version__}")
        raise typer.Exit


def _root(
    ctx: typer.Context,
    env_file: Annotated[
        Path,
        typer.Option(
            "--env-file", metavar="FILE", help="File of STORAGE_ variables; the environment wins over it."
        ),
    ] = ENV_FILE,
    backends: Annotated[
        str | None,
        typer.Option("--backends", metavar="LIST", help="Stores to use instead of STORAGE_BACKENDS."),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", metavar="DIR", help="Directory to use instead of STORAGE_DATA_DIR."),
    ] = None,
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            help="Module of the bot that declares record kinds; may be repeated.",
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Look after the stores of trading bots: see what is in them, move between them, prove that they agree.

    Exit codes: 0 fine, 1 found a problem, 2 wrong usage or configuration, 3 a store could not be used,
    130 interrupted, 141 nobody read the output to its end.
    """
    if env_file != ENV_FILE and not env_file.is_file():
        raise typer.BadParameter(f"there is no file {env_file}", param_hint="--env-file")
    given = {"backends": backends, "data_dir": data_dir}
    overrides = {name: value for name, value in given.items() if value is not None}
    ctx.obj = Session(env_file, overrides, tuple(modules or ()), debug)


def make_app() -> typer.Typer:
    """Return the command line without what plugins add."""
    app = typer.Typer(
        name="gateway",
        cls=GatewayCommands,
        no_args_is_help=True,
        pretty_exceptions_enable=False,  # they would show local variables, passwords among them
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(_root)
    for group in _GROUPS:
        group.add_to(app)
    return app


def run() -> int:
    """Run what was typed, and return the exit code."""
    app = make_app()
    try:
        _extend(app)
    except GatewayError as error:
        report(type(error).__name__, str(error), code_of(error), as_json=_JSON in sys.argv)
        return code_of(error)
    code: int = ExitCode.OK
    try:
        app(prog_name="gateway")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else ExitCode.OK
    try:
        sys.stdout.flush()  # short output is written only now
    except BrokenPipeError:
        abandon_output()
        return ExitCode.CUT_OFF
    return code


def _extend(app: typer.Typer) -> None:
    """Let installed plugins add their commands. Without any, nothing is loaded for it."""
    if not entry_points(group=_PLUGINS):
        return
    from gateway.config import denied_plugins
    from gateway.registry import CLI, discover

    registry = discover(deny=denied_plugins(), groups=(CLI,))
    registry.extend_cli(app)
    for problem in registry.problems:
        if problem.group == CLI:
            sys.stderr.write(f"warning: {problem.sentence}\n")
