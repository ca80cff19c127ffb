"""The control store: which phase each kind is in, who decided so and why, and which running bots follow.

One SQLite file for the bots of one machine. It is made by the first decision; while there is none, the
environment decides. A decision takes effect in running bots through `gateway.migration.follow`.
"""

from __future__ import annotations

import os
import secrets
import socket
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from gateway.errors import ConfigurationError
from gateway.migration.control_file import ControlFile
from gateway.migration.decisions import (
    ALL_KINDS,
    Change,
    ControlState,
    Decision,
    check_move,
    pair_of,
    resolve,
)
from gateway.migration.phases import Phase
from gateway.records.codec import from_micros, to_micros
from gateway.routing import KindPlan, RoutingPlan

__all__ = [
    "ALL_KINDS",
    "Change",
    "ControlState",
    "ControlStore",
    "Decision",
    "Member",
    "MemberId",
    "resolve",
]

_TEXT_LIMIT: Final = 1024
_FORGET_MEMBERS: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class MemberId:
    """A running gateway.

    Attributes:
        instance: Drawn at random when it was opened; a process may hold several gateways.
        host: Name of its machine.
        pid: Its process.
    """

    instance: str
    host: str
    pid: int

    @classmethod
    def draw(cls) -> MemberId:
        """Return the id of a gateway that is being opened in this process."""
        return cls(secrets.token_hex(8), socket.gethostname(), os.getpid())


@dataclass(frozen=True, slots=True)
class Member:
    """What a running gateway last said of itself.

    Attributes:
        id: Which one.
        epoch: The epoch it follows.
        seen_at: When it said so, in UTC.
        pair: The stores it runs with, `old>new`; decisions about others do not reach it.
    """

    id: MemberId
    epoch: int
    seen_at: datetime
    pair: str


class ControlStore:
    """Decisions, their history, and the members that follow them.

    Every method opens the file, does one transaction and closes it; from an event loop, call it in a thread.
    Safe to use from several threads and processes.

    Args:
        path: The file. Reading a missing one finds nothing decided; the first write makes it, with mode 0600.
        backends: Instance names of the stores, the old one first. Decisions about another pair are left
            alone and not followed.
        busy_timeout: Seconds to wait for another writer.
    """

    def __init__(self, path: Path, backends: Sequence[str], *, busy_timeout: float = 5.0) -> None:
        self.file = ControlFile(path, busy_timeout=busy_timeout)
        self._paired = len(backends) == 2
        self._pair = pair_of(backends)

    def __repr__(self) -> str:
        return f"<ControlStore {self.file.path} {self._pair}>"

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.file.path

    @property
    def pair(self) -> str:
        """The stores that its decisions are about, `old>new`."""
        return self._pair

    def state(self) -> ControlState:
        """Return all decisions about this pair of stores.

        Raises:
            ConfigurationError: The control store cannot be read; the message says what to do.
        """
        with self.file.reading() as connection:
            if connection is None:
                return ControlState()
            (epoch,) = connection.execute("SELECT value FROM epoch").fetchone()
            rows = connection.execute(
                "SELECT kind, phase, share, epoch, who, why, at FROM phases WHERE pair = ? ORDER BY kind",
                (self._pair,),
            )
            return ControlState(epoch, {row[0]: _decision(row) for row in rows})

    def epoch(self) -> int:
        """Return the epoch, 0 while nothing was ever decided.

        Raises:
            ConfigurationError: The control store cannot be read.
        """
        with self.file.reading() as connection:
            return (
                0 if connection is None else int(connection.execute("SELECT value FROM epoch").fetchone()[0])
            )

    def explain(self, kind: str) -> str:
        """Return in words who decided where a kind stands.

        Raises:
            ConfigurationError: The control store cannot be read.
        """
        return self.state().explain(kind)

    def set_phase(
        self, kind: str, phase: Phase, *, share: float = 0.0, who: str, why: str, base: KindPlan | RoutingPlan
    ) -> Change:
        """Put a kind into a phase, and return the step taken.

        Args:
            kind: Name of the kind, or `*` for every kind, those with a decision of their own among them.
            phase: The phase it stands in now, or a neighbour of it.
            share: Percent of its keys that the new store leads ahead of the phase.
            who: Who decides.
            why: Their reason.
            base: Where the environment puts the kind, in case nothing was decided yet. Give the whole plan
                to have `*` checked against every kind that the environment names.

        Raises:
            PhaseError: The step skips a phase, or leaves the last. Nothing was changed.
            ConfigurationError: A share out of range, no author or reason, or a control store that cannot be
            used.
        """
        wanted = KindPlan(phase, share)
        _check_words(who, why)
        if not self._paired:
            raise ConfigurationError(
                "there is one store only, so there is nothing to migrate; "
                "name the old and the new one in STORAGE_BACKENDS"
            )
        with self.file.writing() as connection:
            before = self._standing(connection, kind, base)
            for current in (before, *self._swept_along(connection, kind, base)):
                check_move(current, wanted)
            connection.execute("UPDATE epoch SET value = value + 1")
            (epoch,) = connection.execute("SELECT value FROM epoch").fetchone()
            change = Change(
                kind, before, wanted, epoch, who.strip(), why.strip(), datetime.now(UTC), self._pair
            )
            _record(connection, change)
        return change

    def history(self, limit: int = 100) -> tuple[Change, ...]:
        """Return the latest steps, the newest first, those about other pairs of stores among them.

        Raises:
            ConfigurationError: The control store cannot be read.
        """
        with self.file.reading() as connection:
            if connection is None:
                return ()
            rows = connection.execute(
                "SELECT kind, phase_before, share_before, phase, share, epoch, who, why, at, pair "
                "FROM audit ORDER BY epoch DESC LIMIT ?",
                (limit,),
            )
            return tuple(_change(row) for row in rows)

    def beat(self, member: MemberId, epoch: int) -> None:
        """Note that a gateway runs and which epoch it follows.

        Raises:
            ConfigurationError: The control store cannot be written.
        """
        now = datetime.now(UTC)
        with self.file.writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?, ?)",
                (member.instance, self._pair, member.host, member.pid, epoch, to_micros(now)),
            )
            # Gateways that were killed never leave; forgetting them here keeps the table small.
            connection.execute("DELETE FROM members WHERE seen_at < ?", (to_micros(now - _FORGET_MEMBERS),))

    def leave(self, member: MemberId) -> None:
        """Note that a gateway was closed.

        Raises:
            ConfigurationError: The control store cannot be written.
        """
        with self.file.writing() as connection:
            connection.execute("DELETE FROM members WHERE instance = ?", (member.instance,))

    def members(self, max_age: timedelta = timedelta(seconds=15)) -> tuple[Member, ...]:
        """Return the gateways with this pair of stores that were heard of lately, by host and process.

        Raises:
            ConfigurationError: The control store cannot be read.
        """
        return tuple(one for one in self._heard_of(max_age) if one.pair == self._pair)

    def other_members(self, max_age: timedelta = timedelta(seconds=15)) -> tuple[Member, ...]:
        """Return the gateways with other stores that were heard of lately: no decision here reaches them.

        Raises:
            ConfigurationError: The control store cannot be read.
        """
        return tuple(one for one in self._heard_of(max_age) if one.pair != self._pair)

    def _heard_of(self, max_age: timedelta) -> list[Member]:
        with self.file.reading() as connection:
            if connection is None:
                return []
            rows = connection.execute(
                "SELECT instance, host, pid, epoch, seen_at, pair FROM members "
                "WHERE seen_at >= ? ORDER BY pair, host, pid, instance",
                (to_micros(datetime.now(UTC) - max_age),),
            )
            return [
                Member(MemberId(instance, host, pid), epoch, from_micros(seen), pair)
                for instance, host, pid, epoch, seen, pair in rows
            ]

    def _standing(self, connection: sqlite3.Connection, kind: str, base: KindPlan | RoutingPlan) -> KindPlan:
        """Return where a kind stands: by its own row, by the row for all, or by the environment."""
        row = connection.execute(
            "SELECT phase, share FROM phases "
            "WHERE pair = ? AND kind IN (?, ?) ORDER BY kind = ? DESC LIMIT 1",
            (self._pair, kind, ALL_KINDS, kind),
        ).fetchone()
        if row is not None:
            return _plan(*row)
        return base if isinstance(base, KindPlan) else base.kinds.get(kind, base.default)

    def _swept_along(
        self, connection: sqlite3.Connection, kind: str, base: KindPlan | RoutingPlan
    ) -> list[KindPlan]:
        """Return where those kinds stand that have a decision of their own, or that only the environment names.

        A step for every kind moves them too: one that was left behind without a word would be found at the worst
        moment.
        """
        if kind != ALL_KINDS:
            return []
        rows = connection.execute("SELECT kind, phase, share FROM phases WHERE pair = ?", (self._pair,))
        decided = {name: _plan(phase, share) for name, phase, share in rows}
        named = {} if isinstance(base, KindPlan) or ALL_KINDS in decided else base.kinds
        staying = {ALL_KINDS} if isinstance(base, KindPlan) else {ALL_KINDS, *base.placed}
        return [plan for name, plan in {**named, **decided}.items() if name not in staying]


def _record(connection: sqlite3.Connection, change: Change) -> None:
    after, at = change.after, to_micros(change.at)
    if change.kind == ALL_KINDS:
        connection.execute("DELETE FROM phases WHERE pair = ?", (change.pair,))
    connection.execute(
        "INSERT OR REPLACE INTO phases VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (change.pair, change.kind, after.phase.value, after.share, change.epoch, change.who, change.why, at),
    )
    connection.execute(
        "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            change.epoch,
            change.pair,
            change.kind,
            change.before.phase.value,
            change.before.share,
            after.phase.value,
            after.share,
            change.who,
            change.why,
            at,
        ),
    )


def _check_words(who: str, why: str) -> None:
    for name, text in (("who decides", who), ("why", why)):
        if not text.strip():
            raise ConfigurationError(f"say {name}; it is kept with the decision")
        if len(text) > _TEXT_LIMIT:
            raise ConfigurationError(
                f"the text for {name} is longer than {_TEXT_LIMIT} characters; shorten it"
            )


def _plan(phase: str, share: float) -> KindPlan:
    return KindPlan(Phase(phase), share)


def _decision(row: tuple[Any, ...]) -> Decision:
    kind, phase, share, epoch, who, why, at = row
    return Decision(kind, _plan(phase, share), epoch, who, why, from_micros(at))


def _change(row: tuple[Any, ...]) -> Change:
    kind, phase_before, share_before, phase, share, epoch, who, why, at, pair = row
    return Change(
        kind, _plan(phase_before, share_before), _plan(phase, share), epoch, who, why, from_micros(at), pair
    )
