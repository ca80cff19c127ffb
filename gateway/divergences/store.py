"""Where divergences are kept: in the control store, bounded, for every process to list."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Final

from gateway.compare import FieldDifference, Outcome
from gateway.divergences.divergence import Divergence, Resolution, joined, resolved
from gateway.migration.control_file import ControlFile
from gateway.records.codec import from_micros, to_micros

__all__ = ["DivergenceStore", "State"]

_DROPPED: Final = "divergences_dropped"
_CHOSEN: Final = (
    "WHERE (?1 IS NULL OR json_extract(body, '$.kind') = ?1) "
    "AND (?2 IS NULL OR (json_extract(body, '$.resolution') IS NULL) = (?2 = 'open')) "
)


class State(StrEnum):
    """Whether a divergence needs attention."""

    OPEN = "open"
    """Nobody resolved it, or it was found again since."""
    RESOLVED = "resolved"
    """Somebody said why it needs none."""


class DivergenceStore:
    """Divergences in the control store. Every method reads or writes a file: call it in a thread from an event loop.

    Args:
        file: The control store's file.
        kept: How many are kept; beyond that resolved ones go, then those not seen for longest, and are counted.
    """

    def __init__(self, file: ControlFile, *, kept: int = 10_000) -> None:
        self.file = file
        self._kept = kept

    def __repr__(self) -> str:
        return f"<DivergenceStore {self.file.path}>"

    def save(self, batch: Iterable[Divergence]) -> tuple[list[Divergence], int]:
        """Join a batch with what is kept.

        Returns:
            The entries that are news to every process: found for the first time, or again after they were resolved.
            And how many others had to go.

        Raises:
            ConfigurationError: The control store cannot be written.
        """
        news: list[Divergence] = []
        with self.file.writing() as connection:
            for divergence in batch:
                known = _entry(connection, divergence.identity)
                entry = divergence if known is None else joined(known, divergence)
                if known is None or entry.reopened > known.reopened:
                    news.append(entry)
                _write(connection, entry)
            (total,) = connection.execute("SELECT count(*) FROM divergences").fetchone()
            gone = max(0, total - self._kept)
            if gone:
                _drop(connection, gone)
        return news, gone

    def listed(
        self, limit: int = 100, *, kind: str | None = None, state: State | None = None, prefix: str = ""
    ) -> tuple[Divergence, ...]:
        """Return what is kept, the last seen first.

        Args:
            limit: At most this many.
            kind: Only this kind's.
            state: Only the open ones, or the resolved ones.
            prefix: Only those whose identity begins like this.

        Raises:
            ConfigurationError: The control store cannot be read.
        """
        with self.file.reading() as connection:
            if connection is None:
                return ()
            rows = connection.execute(
                f"SELECT body FROM divergences {_CHOSEN} "  # noqa: S608 - fixed text; every value is a parameter
                "AND substr(identity, 1, length(?3)) = ?3 ORDER BY last_seen DESC, identity LIMIT ?4",
                (kind, state, prefix, limit),
            )
            return tuple(_from_json(body) for (body,) in rows)

    def counts(self, *, kind: str | None = None) -> dict[State, int]:
        """Return how many are kept of each state.

        Raises:
            ConfigurationError: The control store cannot be read.
        """
        with self.file.reading() as connection:
            if connection is None:
                return dict.fromkeys(State, 0)
            query = f"SELECT count(*) FROM divergences {_CHOSEN}"  # noqa: S608 - as above
            return {state: connection.execute(query, (kind, state)).fetchone()[0] for state in State}

    def dropped(self) -> int:
        """Return how many kept ones had to go, over all processes, for want of room.

        Raises:
            ConfigurationError: The control store cannot be read.
        """
        with self.file.reading() as connection:
            if connection is None:
                return 0
            row = connection.execute("SELECT value FROM tallies WHERE name = ?", (_DROPPED,)).fetchone()
            return int(row[0]) if row else 0

    def resolve(self, identities: Sequence[str], *, who: str, why: str) -> int:
        """Note that somebody resolved divergences; return how many of them were open.

        Raises:
            ConfigurationError: The control store cannot be written.
        """
        count = 0
        with self.file.writing() as connection:
            for identity in identities:
                known = _entry(connection, identity)
                if known is not None and known.open:
                    _write(connection, resolved(known, who, why))
                    count += 1
        return count

    def clear(self, *, kind: str | None = None, state: State | None = None) -> int:
        """Forget what is kept, of a kind or in a state, or all of it; return how many.

        Raises:
            ConfigurationError: The control store cannot be written.
        """
        with self.file.writing() as connection:
            query = f"DELETE FROM divergences {_CHOSEN}"  # noqa: S608 - as above
            return connection.execute(query, (kind, state)).rowcount


def _entry(connection: sqlite3.Connection, identity: str) -> Divergence | None:
    row = connection.execute("SELECT body FROM divergences WHERE identity = ?", (identity,)).fetchone()
    return None if row is None else _from_json(row[0])


def _write(connection: sqlite3.Connection, entry: Divergence) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO divergences VALUES (?, ?, ?)",
        (entry.identity, to_micros(entry.last_seen), _to_json(entry)),
    )


def _drop(connection: sqlite3.Connection, count: int) -> None:
    connection.execute(
        "DELETE FROM divergences WHERE identity IN (SELECT identity FROM divergences "
        "ORDER BY json_extract(body, '$.resolution') IS NULL, last_seen LIMIT ?)",
        (count,),
    )
    connection.execute(
        "INSERT INTO tallies VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
        (_DROPPED, count),
    )


def _to_json(divergence: Divergence) -> str:
    body: dict[str, Any] = {name: getattr(divergence, name) for name in Divergence.__slots__}
    body["differences"] = [[one.field, one.left, one.right] for one in divergence.differences]
    body["first_seen"], body["last_seen"] = to_micros(divergence.first_seen), to_micros(divergence.last_seen)
    why = divergence.resolution
    body["resolution"] = None if why is None else [why.who, why.why, to_micros(why.at)]
    return json.dumps(body, ensure_ascii=False)


def _from_json(text: str) -> Divergence:
    """Read an entry; what another release of the gateway noted beside is left out."""
    held: dict[str, Any] = json.loads(text)
    body = {name: held[name] for name in Divergence.__slots__ if name in held}
    body["key"] = tuple(body["key"])
    body["outcome"] = Outcome(body["outcome"])
    body["differences"] = tuple(FieldDifference(*one) for one in body["differences"])
    body["versions"] = tuple(body["versions"])
    body["first_seen"], body["last_seen"] = from_micros(body["first_seen"]), from_micros(body["last_seen"])
    if body.get("resolution"):
        who, why, at = body["resolution"]
        body["resolution"] = Resolution(who, why, from_micros(at))
    return Divergence(**body)
