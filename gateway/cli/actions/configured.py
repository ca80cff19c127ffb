"""The settings in force, and who decided where each kind stands."""

from __future__ import annotations

from typing import Any

from gateway.cli.actions.phases import standing
from gateway.cli.output import print_json, print_line, print_table
from gateway.cli.session import Session

__all__ = ["show_config"]


def show_config(session: Session, *, as_json: bool) -> None:
    """Print the settings and the phases. Secrets are hidden by the configuration itself."""
    configuration = session.configuration
    state = session.control.state()
    found: dict[str, Any] = {
        "settings": [
            {"variable": one.variable, "value": one.value, "source": one.source}
            for one in configuration.values
        ],
        "stores": [{"name": one.instance, "backend": one.spec.name} for one in configuration.stores],
        "epoch": state.epoch,
        "phases": [
            _phase(one, state.explain(one["companion_of"] or one["kind"])) for one in standing(session, state)
        ],
    }
    if as_json:
        print_json(found)
        return
    print_table(("setting", "value", "from"), [list(one.values()) for one in found["settings"]])
    print_line("")
    print_table(
        ("kind", "phase", "share", "decided by"),
        [
            (one["kind"], one["phase"], f"{one['share']:g}%" if one["share"] else "", one["decided_by"])
            for one in found["phases"]
        ],
    )


def _phase(one: dict[str, Any], decided_by: str) -> dict[str, Any]:
    return {"kind": one["kind"], "phase": one["phase"], "share": one["share"], "decided_by": decided_by}
