"""Resolving divergences, and forgetting them."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from typing import Final

from gateway.cli.actions.divergences import one_of, store_of
from gateway.cli.exits import ExitCode
from gateway.cli.output import note, print_json, print_line
from gateway.cli.session import Session
from gateway.divergences.divergence import Divergence
from gateway.divergences.store import DivergenceStore, State
from gateway.errors import ConfigurationError, InvalidRecordError

__all__ = ["clear_divergences", "resolve_divergences"]

_ALL: Final = 1_000_000_000


def resolve_divergences(
    session: Session,
    identities: Sequence[str],
    *,
    kind: str | None,
    who: str | None,
    why: str,
    everything: bool,
    as_json: bool,
) -> ExitCode:
    """Note who resolved which divergences, and why.

    Raises:
        ConfigurationError: Neither ids nor --all were given, or both.
        InvalidRecordError: There is no reason, or several divergences begin with an id.
    """
    if bool(identities) is everything:
        raise ConfigurationError(
            "give the ids of divergences, or --all for all that are open, perhaps with --kind"
        )
    if not why.strip():
        raise InvalidRecordError("--why is empty; say why they need no attention any more")
    store = store_of(session, kind)
    chosen, missing = _chosen(store, identities, kind)
    name = getpass.getuser() if who is None else who
    # A control store that nobody needed so far is not made for this.
    names = [one.identity for one in chosen]
    count = store.resolve(names, who=name, why=why.strip()) if names else 0
    if as_json:
        print_json({"resolved": count, "missing": missing})
    else:
        for identity in missing:
            note(f"there is no divergence {identity}; list them with `gateway divergences`")
        print_line(f"{count:,} resolved by {name}")
    return ExitCode.PROBLEM if missing else ExitCode.OK


def _chosen(
    store: DivergenceStore, identities: Sequence[str], kind: str | None
) -> tuple[list[Divergence], list[str]]:
    """Return the divergences meant, and the ids of which there are none."""
    if not identities:
        return list(store.listed(_ALL, kind=kind, state=State.OPEN)), []
    found = {identity: one_of(store, identity, kind) for identity in identities}
    return [one for one in found.values() if one is not None], [
        identity for identity, one in found.items() if one is None
    ]


def clear_divergences(session: Session, kind: str | None, *, as_json: bool) -> None:
    """Forget every divergence, or those of a kind."""
    store = store_of(session, kind)
    # A control store that nobody needed so far is not made in order to be emptied.
    count = store.clear(kind=kind) if session.control.file.present() else 0
    if as_json:
        print_json({"cleared": count})
    else:
        print_line(f"{count:,} forgotten")
