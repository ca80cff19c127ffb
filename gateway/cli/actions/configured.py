"""The settings in force, and who decided where each kind stands."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gateway.cli.actions.phases import standing
from gateway.cli.exits import ExitCode, report
from gateway.cli.output import print_json, print_line, print_table
from gateway.cli.session import Session
from gateway.errors import ConfigurationError
from gateway.findings import Finding, Level, fail
from gateway.migration.control import ControlState

__all__ = ["concerns_of", "show_config"]


def show_config(session: Session, *, as_json: bool) -> ExitCode:
    """Print the settings, what is not safe about them, and the phases. The configuration itself hides secrets.

    Settings that production refuses are shown: whoever has to correct them must see them. A control store that
    cannot be read is an error, and yet the settings are shown: they say where it should be.
    """
    try:
        state, problem = session.control.state(), None
    except ConfigurationError as error:
        state, problem = None, error
    found = _settings(session) | {"concerns": [asdict(one) for one in concerns_of(session)]}
    found |= _phases(session, state)
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


def concerns_of(session: Session) -> list[Finding]:
    """Return what is not safe about the settings, and what contradicts itself in them; production refuses failures."""
    configuration = session.configuration
    found = configuration.concerns()
    for store in configuration.opened:
        try:
            found += configuration.concerns(store)
        except ConfigurationError as error:
            found.append(fail(f"store {store.instance}", str(error), "correct its settings"))
    return list(dict.fromkeys(found))


def _phases(session: Session, state: ControlState | None) -> dict[str, Any]:
    if state is None:
        return {"epoch": None, "phases": []}
    phases = [
        {
            "kind": one["kind"],
            "phase": one["phase"],
            "share": one["share"],
            "decided_by": one["source"]
            if one["epoch"] is None
            else state.explain(one["companion_of"] or one["kind"]),
        }
        for one in standing(session, state)
    ]
    return {"epoch": state.epoch, "phases": phases}


def _print_config(found: dict[str, Any]) -> None:
    print_table(("setting", "value", "from"), [list(one.values()) for one in found["settings"]])
    if found["concerns"]:
        print_line("")
    for one in found["concerns"]:
        print_line(
            f"{one['level']}: {one['subject']}: {one['sentence']}; {one['advice']}",
            "bold red" if one["level"] == Level.FAIL else "yellow",
        )
    if not found["phases"]:
        return
    print_line("")
    rows = [
        (one["kind"], one["phase"], f"{one['share']:g}%" if one["share"] else "", one["decided_by"])
        for one in found["phases"]
    ]
    print_table(("kind", "phase", "share", "decided by"), rows)
