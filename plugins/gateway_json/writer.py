"""The one writer of a directory: a crash at any point loses nothing that was acknowledged.

A batch is decided first, then every new file is prepared and every line appended and on the disk, and only
then do the prepared files take their places. Whatever can fail for lack of space has failed before anything
changed. Runs in one thread, which is what makes read-compute-write steps atomic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from gateway.backend import Group, WriteBatch, WriteReceipt
from gateway.records.kind import KindSpec, Shape
from gateway.records.row import Row
from gateway_json.appends import Appends, day_of_row
from gateway_json.batches import Ref, Transaction
from gateway_json.documents import Marker, document_of
from gateway_json.files import Disk, discard
from gateway_json.index import Entry, LogIndex
from gateway_json.logs import Logs
from gateway_json.pending import Moved, Pending
from gateway_json.recovery import Recovery
from gateway_json.report import Report
from gateway_json.states import States
from gateway_json.tree import Tree

__all__ = ["Writer"]


class Writer:
    """Writes below one directory. Use it from one thread at a time.

    Args:
        tree: The directory.
        disk: How to write to it.
        kinds: Every registered kind.
        report: Told of what was mended.
        states: Reads what is stored under keys.
        logs: Reads what is stored in logs.
        index: Knows where each log row is.
    """

    def __init__(
        self,
        tree: Tree,
        disk: Disk,
        kinds: Sequence[KindSpec],
        report: Report,
        states: States,
        logs: Logs,
        index: LogIndex,
    ) -> None:
        self._tree = tree
        self._disk = disk
        self._kinds = {kind.name: kind for kind in kinds}
        self._report = report
        self._states = states
        self._logs = logs
        self._index = index
        self._pending = Pending(tree.pending, disk)
        self._recovery = Recovery(tree, disk, report)
        self._appends = Appends(tree, disk, index, self._recovery, logs.views)
        self._interrupted = False

    def recover(self) -> None:
        """Mend what the last writer left, and complete the step that it was applying."""
        self._recovery.run(self._kinds.values())
        for kind in self._kinds.values():
            if kind.shape is Shape.LOG:
                for scope in self._tree.scopes(kind):
                    self._index.sync(kind, scope)
        self._complete_pending()

    def write(self, batch: WriteBatch) -> WriteReceipt:
        """Apply a batch; durable when it returns.

        Raises:
            ApplyError: The function of an `Update` raised; nothing was written.
            StoreError: Nothing of the batch counts as acknowledged.
            OSError: The same, not translated yet.
        """
        if self._interrupted:
            self._complete_pending()
        held = _Held(self._tree, self._states, self._logs, self._index)
        logged = [row for row in _given(batch) if row.kind.shape is Shape.LOG]
        self._appends.expect(logged)
        held.expect(logged)
        transaction = Transaction(held)
        for position, step in enumerate(batch.steps):
            transaction.take(position, step)
        rows = list(transaction.rows.values())
        moves = list(_moves(rows, held))
        self._commit(rows, moves, together=transaction.together or bool(moves))
        return WriteReceipt(superseded=transaction.superseded, updated=transaction.updated)

    def _complete_pending(self) -> None:
        """Apply the step that was interrupted; what is there of it already is left as it is."""
        rows, moves = self._pending.read(self._kinds)
        if not rows and not moves:
            self._interrupted = False
            return
        self._interrupted = True
        transaction = Transaction(_Held(self._tree, self._states, self._logs, self._index))
        transaction.take(0, Group(tuple(rows)))
        for scope in {self._tree.scope(row.kind, row.tenant) for row in rows}:
            self._disk.make_dir(self._tree.root, scope)
            self._disk.sync_dir(scope)
        self._commit(list(transaction.rows.values()), moves, together=True)
        self._report.mended(
            f"{self._pending.path}: a step of {len(rows)} rows was interrupted and is complete now"
        )

    def _commit(self, rows: Sequence[Row], moves: Sequence[Moved], *, together: bool) -> None:
        """Put rows on the disk, all of them or, if anything fails before the last moment, none."""
        logged = [row for row in rows if row.kind.shape is Shape.LOG]
        prepared: list[tuple[Path, Path]] = []
        journaled = together and not self._interrupted  # an interrupted step is in the pending file already
        try:
            self._prepare([row for row in rows if row.kind.shape is not Shape.LOG], prepared)
            if journaled:
                self._pending.write(rows, moves)
            self._appends.append(logged, moves)
        except BaseException:
            discard(*(tmp for tmp, _ in prepared))
            if journaled:
                self._pending.remove()
            raise
        self._publish(prepared, together=together)

    def _prepare(self, rows: Iterable[Row], prepared: list[tuple[Path, Path]]) -> None:
        """Write the new content of every key beside the old one."""
        for row in rows:
            path = self._tree.state(row.kind, row.tenant, row.key)
            self._disk.make_dir(self._tree.root, path.parent)
            prepared.append((self._disk.prepare(path, (document_of(row.kind).pretty(row),)), path))

    def _publish(self, prepared: Sequence[tuple[Path, Path]], *, together: bool) -> None:
        # From here on the pending file, if there is one, speaks for the step: it is finished later, not
        # undone.
        self._interrupted = together
        try:
            for tmp, path in prepared:
                self._disk.publish(tmp, path)
            for directory in {path.parent for _, path in prepared}:
                self._disk.sync_dir(directory)
        except OSError:
            if not together:
                discard(*(tmp for tmp, _ in prepared))
            raise
        if together:
            self._pending.remove()
        self._interrupted = False


class _Held:
    """What is stored now, as a batch asks for it; forgotten with the batch, so nothing stays cached."""

    def __init__(self, tree: Tree, states: States, logs: Logs, index: LogIndex) -> None:
        self._tree = tree
        self._states = states
        self._logs = logs
        self._index = index
        self._rows: dict[Ref, Row | None] = {}
        self._entries: dict[tuple[Path, str], Entry | None] = {}

    def expect(self, logged: Iterable[Row]) -> None:
        """Look up log rows in few queries instead of one each."""
        wanted: dict[Path, list[str]] = {}
        for row in logged:
            wanted.setdefault(self._tree.scope(row.kind, row.tenant), []).append(str(row.values[0]))
        for scope, ids in wanted.items():
            found = self._index.find(scope, ids)
            self._entries |= {(scope, record_id): found.get(record_id) for record_id in ids}

    def stamp(self, ref: Ref) -> tuple[int, int] | None:
        """Return version and digest stored under a key."""
        if ref[0].shape is Shape.LOG:
            entry = self.entry(ref)
            return entry.stamp if entry is not None else None
        row = self.row(ref)
        return row.stamp if row is not None else None

    def row(self, ref: Ref) -> Row | None:
        """Return the row stored under a key."""
        kind, tenant, key = ref
        if ref not in self._rows:
            if kind.shape is Shape.LOG:
                self._rows[ref] = self._logs.get(kind, tenant, [str(key[0])]).get(str(key[0]))
            else:
                self._rows[ref] = self._states.get(kind, tenant, key)
        return self._rows[ref]

    def entry(self, ref: Ref) -> Entry | None:
        """Return where a log row is stored."""
        kind, tenant, key = ref
        place = (self._tree.scope(kind, tenant), str(key[0]))
        if place not in self._entries:
            self._entries[place] = self._index.find(place[0], [place[1]]).get(place[1])
        return self._entries[place]


def _given(batch: WriteBatch) -> Iterator[Row]:
    """Yield the rows that a batch brings along."""
    for step in batch.steps:
        if isinstance(step, Row):
            yield step
        elif isinstance(step, Group):
            yield from step.rows


def _moves(rows: Iterable[Row], held: _Held) -> Iterator[Moved]:
    """Yield a marker for each log row whose new version has another day; check that each has a day."""
    for row in rows:
        if row.kind.shape is not Shape.LOG:
            continue
        day = day_of_row(row)
        entry = held.entry((row.kind, row.tenant, row.key))
        if entry is not None and entry.day != day:
            yield Moved(row.kind, row.tenant, entry.day, Marker(str(row.values[0]), row.stamp, day))
