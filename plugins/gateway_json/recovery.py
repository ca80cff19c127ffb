"""What a crash left behind: torn last lines and unfinished files. Moved aside and reported, never deleted."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from gateway.records.kind import KindSpec, Shape
from gateway_json.files import TMP, Disk, last_newline
from gateway_json.report import Report
from gateway_json.tree import Tree, names_in
from gateway_json.views import is_line

__all__ = ["STALE", "TORN", "Recovery"]

STALE: Final = ".stale"
TORN: Final = ".torn"


class Recovery:
    """Mends a directory that its last writer left in the middle of a write.

    Args:
        tree: The directory.
        disk: How to write to it.
        report: Told of everything that was mended.
    """

    def __init__(self, tree: Tree, disk: Disk, report: Report) -> None:
        self._tree = tree
        self._disk = disk
        self._report = report

    def run(self, kinds: Iterable[KindSpec]) -> None:
        """Mend the files of every registered kind. What belongs to other kinds is left alone."""
        self._set_aside_unfinished(self._tree.root)
        for kind in kinds:
            for scope in self._tree.scopes(kind):
                self._set_aside_unfinished(scope)
                if kind.shape is Shape.LOG:
                    for day in self._tree.days(scope):
                        self.mend_tail(kind, scope / f"{day}.jsonl")

    def mend_tail(self, kind: KindSpec, path: Path) -> None:
        """Make a day's file end with a whole line.

        A last line that lacks only its newline is completed. Anything else was never acknowledged: its bytes
        go to `<file>.torn-<n>` first, and are then cut off.
        """
        size = path.stat().st_size
        if size == 0 or _ends_whole(path, size):
            return
        whole = last_newline(path)
        with path.open("rb") as file:
            file.seek(whole)
            tail = file.read()
        if is_line(path, kind, tail):
            self._disk.append(path, b"\n")
            self._report.mended(f"{path}: the last line lacked its newline; it is complete and was kept")
            return
        aside = self._first_torn(path)
        self._disk.replace(aside, tail)
        self._disk.truncate(path, whole)
        self._report.mended(
            f"{path}: the last line was torn by a crash before it was acknowledged; its {len(tail)} bytes "
            f"are in {aside.name}"
        )

    def _first_torn(self, path: Path) -> Path:
        number = 1
        while (aside := path.with_name(f"{path.name}{TORN}-{number}")).exists():
            number += 1
        return aside

    def _set_aside_unfinished(self, directory: Path) -> None:
        for name in names_in(directory):
            if name.endswith(TMP):
                aside = self._disk.set_aside(directory / name, STALE)
                self._report.mended(
                    f"{directory / name} was left by an interrupted write that was never acknowledged; it is "
                    f"{aside.name} now"
                )


def _ends_whole(path: Path, size: int) -> bool:
    with path.open("rb") as file:
        file.seek(size - 1, os.SEEK_SET)
        return file.read(1) == b"\n"
