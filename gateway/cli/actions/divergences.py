"""Listing the divergences that the control store keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from gateway.cli.actions.exporting import opened
from gateway.cli.exits import ExitCode
from gateway.cli.output import json_text, note, print_json, print_line, print_table
from gateway.cli.session import Session
from gateway.cli.values import cell, key_text, time_text
from gateway.divergences import Divergence, DivergenceLog
from gateway.errors import InvalidRecordError

__all__ = ["clear_divergences", "export_divergences", "list_divergences", "show_divergence"]

_ALL: Final = 1_000_000_000
_ID: Final = 12
"""Characters of an id in a table: enough to tell those apart that are kept."""


def list_divergences(session: Session, kind: str | None, limit: int, *, as_json: bool) -> None:
    """Print the divergences, the last seen first."""
    log = _log(session, kind)
    found = log.listed(limit, kind=kind)
    dropped = log.dropped()
    if as_json:
        print_json({"divergences": [_divergence(one) for one in found], "dropped": dropped})
        return
    rows = [
        (
            one.identity[:_ID],
            one.kind,
            key_text(one.key),
            one.reason,
            ", ".join(part.field for part in one.differences),
            one.count,
            time_text(one.last_seen),
        )
        for one in found
    ]
    print_table(("id", "kind", "key", "reason", "fields", "times", "last seen"), rows)
    note(f"{len(found)} listed" + (f"; {dropped:,} older ones had to go for want of room" if dropped else ""))


def show_divergence(session: Session, identity: str, *, as_json: bool) -> ExitCode:
    """Print one divergence.

    Raises:
        InvalidRecordError: Several begin with this id.
    """
    matching = [one for one in _log(session).listed(_ALL) if one.identity.startswith(identity)]
    if len(matching) > 1:
        raise InvalidRecordError(f"{len(matching)} divergences begin with {identity!r}; give more of the id")
    if not matching:
        if as_json:
            print_json({"found": False})
        else:
            note(f"there is no divergence {identity}; list them with `gateway divergences`")
        return ExitCode.PROBLEM
    found = _divergence(matching[0])
    if as_json:
        print_json({"found": True, **found})
    else:
        _print_divergence(found)
    return ExitCode.OK


def export_divergences(session: Session, kind: str | None, output: Path | None) -> None:
    """Write every divergence as a line of JSON."""
    found = _log(session, kind).listed(_ALL, kind=kind)
    with opened(output) as stream:
        for one in found:
            stream.write(json_text(_divergence(one), stream) + "\n")
    if output is not None:
        note(f"{len(found):,} written to {output}")


def clear_divergences(session: Session, *, as_json: bool) -> None:
    """Forget every divergence."""
    # A control store that nobody needed so far is not made in order to be emptied.
    count = _log(session).clear() if session.control.file.present() else 0
    if as_json:
        print_json({"cleared": count})
    else:
        print_line(f"{count:,} forgotten")


def _log(session: Session, kind: str | None = None) -> DivergenceLog:
    if kind is not None:
        session.kind(kind)
    return DivergenceLog(session.control.file)


def _divergence(one: Divergence) -> dict[str, Any]:
    return {
        "id": one.identity,
        "kind": one.kind,
        "key": list(one.key),
        "outcome": one.outcome.value,
        "reason": one.reason,
        "differences": [
            {"field": part.field, one.primary: part.left, one.shadow: part.right} for part in one.differences
        ],
        "versions": {one.primary: one.versions[0], one.shadow: one.versions[1]},
        "primary": one.primary,
        "shadow": one.shadow,
        "first_seen": time_text(one.first_seen),
        "last_seen": time_text(one.last_seen),
        "count": one.count,
    }


def _print_divergence(found: dict[str, Any]) -> None:
    print_line(f"{found['kind']} {key_text(tuple(found['key']))}: {found['reason']}", "bold")
    print_line(
        f"  id {found['id']}, seen {found['count']} times, from {found['first_seen']} to {found['last_seen']}"
    )
    primary, shadow = found["primary"], found["shadow"]
    versions = found["versions"]
    print_line(f"  versions: {versions[primary]} in {primary}, {versions[shadow]} in {shadow}")
    print_line("")
    rows = [(part["field"], cell(part[primary]), cell(part[shadow])) for part in found["differences"]]
    print_table(("field", primary, shadow), rows)
