"""The settings in force, and who decided where each kind stands."""

from __future__ import annotations

from typing import Any

from gateway.cli.actions.phases import standing
from gateway.cli.exits import ExitCode, report
from gateway.cli.output import print_json, print_line, print_table
from gateway.cli.session import Session
from gateway.errors import ConfigurationError
from gateway.migration.control import ControlState

__all__ = ["show_config"]


def show_config(session: Session, *, as_json: bool) -> ExitCode:
    """Print the settings and the phases. Secrets are hidden by the configuration itself.

    A control store that cannot be read is an error, and yet the settings are shown: they say where it should be.
    """
    try:
        state, problem = session.control.state(), None
    except ConfigurationError as error:
        state, problem = None, error
    found = _settings(session) | _phases(session, state)
    if as_json:
        print_json(found)
    else:
        _print_config(found)
    if problem is None:
        return ExitCode.OK
    report(type(problem).__name__, str(problem), ExitCode.USAGE, as_json=as_json)
    return ExitCode.USAGE


def _settings(session: Session) -> dict[str, Any]:
    configuration = session.configuration
    values = [
        {"variable": one.variable, "value": one.value, "source": one.source} for one in configuration.values
    ]
    stores = [{"name": one.instance, "backend": one.spec.name} for one in configuration.stores]
    return {"settings": values, "stores": stores}


def _phases(session: Session, state: ControlState | None) -> dict[str, Any]:
    if state is None:
        return {"epoch": None, "phases": []}
    phases = [
        {
            "kind": one["kind"],
            "phase": one["phase"],
            "share": one["share"],
            "decided_by": state.explain(one["companion_of"] or one["kind"]),
        }
        for one in standing(session, state)
    ]
    return {"epoch": state.epoch, "phases": phases}


def _print_config(found: dict[str, Any]) -> None:
    print_table(("setting", "value", "from"), [list(one.values()) for one in found["settings"]])
    if not found["phases"]:
        return
    print_line("")
    rows = [
        (one["kind"], one["phase"], f"{one['share']:g}%" if one["share"] else "", one["decided_by"])
        for one in found["phases"]
    ]
    print_table(("kind", "phase", "share", "decided by"), rows)
