"""Listing, showing and exporting the divergences that the control store keeps."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

from gateway.cli.actions.exporting import opened
from gateway.cli.exits import ExitCode
from gateway.cli.output import json_text, note, print_json, print_line, print_table
from gateway.cli.session import Session
from gateway.cli.values import key_text, readable, time_text
from gateway.divergences.divergence import Divergence
from gateway.divergences.store import DivergenceStore, State
from gateway.divergences.traces import traces_of
from gateway.errors import ConfigurationError, InvalidRecordError
from gateway.records.codec import Value
from gateway.records.kind import KindSpec
from gateway.records.registry import KindRegistry
from gateway.records.types import StorageType
from gateway.records.version import version_time

__all__ = ["export_divergences", "list_divergences", "one_of", "show_divergence", "store_of"]

_EVERY: Final = 1_000_000_000
_ID: Final = 8
"""Characters of an id in a table: nearly always enough to tell those apart that are kept; if not, `show` says so."""
_PART: Final = re.compile(r"\[from character (\d+)\] ")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a cell for a formula and run it; names of markets come from strangers."""
_COLUMNS: Final = (
    "id", "kind", "key", "subject", "reason", "state", "field", "primary", "shadow", "primary_value", "shadow_value",
    "primary_version", "shadow_version", "first_seen", "last_seen", "count",
)  # fmt: skip


def store_of(session: Session, kind: str | None = None) -> DivergenceStore:
    """Return where divergences are kept; raises `UnknownKindError` for a kind that nobody registered."""
    if kind is not None:
        session.kind(kind)
    return DivergenceStore(session.control.file)


def one_of(store: DivergenceStore, identity: str, kind: str | None = None) -> Divergence | None:
    """Return the divergence whose id begins like this; None if there is none.

    Raises:
        InvalidRecordError: Several do.
    """
    matching = store.listed(2, kind=kind, prefix=identity)
    if len(matching) > 1:
        raise InvalidRecordError(f"several divergences begin with {identity!r}; give more of the id")
    return matching[0] if matching else None


def _state(text: str) -> State | None:
    """Read `open`, `resolved` or `all`.

    Raises:
        ConfigurationError: It is none of them.
    """
    if text == "all":
        return None
    if text not in set(State):
        raise ConfigurationError(f"--state is open, resolved or all, not {text!r}")
    return State(text)


def list_divergences(session: Session, kind: str | None, limit: int, state: str, *, as_json: bool) -> None:
    """Print divergences, the last seen first.

    Raises:
        ConfigurationError: There is no such state, or the control store cannot be read.
    """
    store = store_of(session, kind)
    found = store.listed(limit, kind=kind, state=_state(state))
    counts, dropped = store.counts(kind=kind), store.dropped()
    if as_json:
        shown = [_divergence(one, session.registry.kinds) for one in found]
        print_json({"divergences": shown, "dropped": dropped, **{str(name): n for name, n in counts.items()}})
        return
    rows = [
        (
            one.identity[:_ID],
            one.kind,
            key_text(one.key),
            one.reason.partition(":")[0],  # the whole of it is in `show`
            ", ".join(part.field for part in one.differences),
            one.count,
            one.last_seen.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        for one in found
    ]
    print_table(("id", "kind", "key", "reason", "fields", "times", "last seen"), rows)
    total = f"{len(found):,} listed, {counts[State.OPEN]:,} open, {counts[State.RESOLVED]:,} resolved"
    note(f"{total}; {dropped:,} older ones had to go for want of room" if dropped else total)


def show_divergence(session: Session, identity: str, *, as_json: bool) -> ExitCode:
    """Print one divergence, field by field.

    Raises:
        InvalidRecordError: Several begin with this id.
    """
    one = one_of(store_of(session), identity)
    if one is None:
        if as_json:
            print_json({"found": False})
        else:
            note(f"there is no divergence {identity}; list them with `gateway divergences`")
        return ExitCode.PROBLEM
    if as_json:
        shown = _divergence(one, session.registry.kinds)
        print_json({"found": True, **shown, "traces": traces_of(session.control.file, one)})
    else:
        _print_divergence(one, session.registry.kinds, traces_of(session.control.file, one))
    return ExitCode.OK


def export_divergences(
    session: Session, kind: str | None, state: str, file_format: str, output: Path | None
) -> None:
    """Write divergences as JSON lines, or as a table with a line for each field that differs.

    Raises:
        ConfigurationError: There is no such format or state, or the file cannot be written.
    """
    writers = {"jsonl": _write_lines, "csv": _write_table}
    if file_format not in writers:
        raise ConfigurationError(f"--format is jsonl or csv, not {file_format!r}")
    found = store_of(session, kind).listed(_EVERY, kind=kind, state=_state(state))
    with opened(output) as stream:
        writers[file_format]((_divergence(one, session.registry.kinds) for one in found), stream)
    if output is not None:
        note(f"{len(found):,} written to {output}")


def _write_lines(found: Iterable[dict[str, Any]], stream: TextIO) -> None:
    stream.writelines(json_text(one, stream) + "\n" for one in found)


def _write_table(found: Iterable[dict[str, Any]], stream: TextIO) -> None:
    table = csv.writer(stream)
    table.writerow(_COLUMNS)
    for one in found:
        for part in one["differences"] or [{"field": None}]:
            table.writerow(map(_plain, _line(one, part)))


def _line(one: dict[str, Any], part: dict[str, Any]) -> Sequence[Any]:
    primary, shadow = one["primary"], one["shadow"]
    cells = {
        **one,
        "key": key_text(tuple(one["key"])),
        "field": part["field"],
        "primary_value": part.get(primary),
        "shadow_value": part.get(shadow),
        "primary_version": one["versions"][primary],
        "shadow_version": one["versions"][shadow],
    }
    return [cells[name] for name in _COLUMNS]


def _plain(value: Any) -> Any:
    """Return a value as a cell; text that a spreadsheet would run gets an apostrophe before it."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _divergence(one: Divergence, kinds: KindRegistry) -> dict[str, Any]:
    """Return a divergence, JSON-ready, its values as people read them."""
    kind = kinds.get(one.kind) if one.kind in {kind.name for kind in kinds} else None
    why = one.resolution
    return {
        "id": one.identity,
        "kind": one.kind,
        "key": [
            _readable(kind, name, value) for name, value in zip(_names(one, kind), one.key, strict=False)
        ],
        "outcome": one.outcome.value,
        "subject": one.subject,
        "reason": one.reason,
        "differences": [
            {
                "field": part.field,
                one.primary: _readable(kind, part.field, part.left),
                one.shadow: _readable(kind, part.field, part.right),
            }
            for part in one.differences
        ],
        "versions": {one.primary: one.versions[0], one.shadow: one.versions[1]},
        "primary": one.primary,
        "shadow": one.shadow,
        "first_seen": time_text(one.first_seen),
        "last_seen": time_text(one.last_seen),
        "count": one.count,
        "state": (State.OPEN if one.open else State.RESOLVED).value,
        "reopened": one.reopened,
        "resolution": None if why is None else {"who": why.who, "why": why.why, "at": time_text(why.at)},
    }


def _names(one: Divergence, kind: KindSpec | None) -> Sequence[str]:
    """Return the fields that a divergence's key is made of; for a count nobody knows which it is."""
    known = kind is not None and one.subject != "count"
    return kind.key if known and kind is not None else [""] * len(one.key)


def _readable(kind: KindSpec | None, name: str, value: Value) -> Any:
    """Return a value as its field's type is read; one of a field that is not there (any more) as it is."""
    if kind is None:
        return value
    if name in kind.field_names:
        return readable(kind.field_spec(name).storage, value)
    return readable(StorageType.TIME, value) if name in {"first", "last"} else value


def _print_divergence(one: Divergence, kinds: KindRegistry, traces: Mapping[str, str]) -> None:
    found = _divergence(one, kinds)
    primary, shadow, versions = one.primary, one.shadow, found["versions"]
    print_line(f"{one.kind} {key_text(tuple(found['key']))}: {one.reason}", "bold")
    print_line(
        f"  id {one.identity}, seen {one.count} times, from {found['first_seen']} to {found['last_seen']}"
    )
    if one.versions != (None, None):
        for store in (primary, shadow):
            print_line(f"  {store}: {_version_text(versions[store], traces.get(store))}")
    if one.resolution is not None:
        print_line(
            f"  resolved by {one.resolution.who} at {found['resolution']['at']}: {one.resolution.why}",
            "green",
        )
    elif one.reopened:
        print_line(f"  found again after it had been resolved, {one.reopened} times", "bold red")
    if one.differences:
        print_line("")
        _print_fields(found, primary, shadow)


def _version_text(version: int | None, trace: str | None) -> str:
    """Say which version of a row a store has, when it was written, and in which trace, if it was traced."""
    if version is None:
        return "no row"
    traced = f", in trace {trace.split('-')[1]}" if trace else ""
    return f"version {version}, written {time_text(version_time(version))}{traced}"


def _print_fields(found: dict[str, Any], primary: str, shadow: str) -> None:
    """Print the two values of each field below each other where they are long, and beside each other otherwise."""
    rows = [
        (part["field"], part[primary], part[shadow], _unlike(part[primary], part[shadow]))
        for part in found["differences"]
    ]
    print_table(("field", primary, shadow, "from"), rows)


def _unlike(left: Any, right: Any) -> str:
    """Return where two values part, in words: what is missing, another type, or the first character that differs."""
    if left == right and type(left) is type(right) and left is not None:
        return "what is not shown"
    if left is None or right is None:
        return "no value" + (" in both" if left is right else "")
    if type(left) is not type(right):
        return f"{type(left).__name__} against {type(right).__name__}"
    if not isinstance(left, str) or not isinstance(right, str):
        return ""
    pairs = zip(left, right, strict=False)
    at = next(
        (place for place, (mine, theirs) in enumerate(pairs) if mine != theirs), min(len(left), len(right))
    )
    begun = _PART.match(left)  # of long texts, the part that differs is kept: see `gateway.compare`
    return f"character {at + 1 + (int(begun[1]) - 1 - begun.end() if begun else 0)}"
