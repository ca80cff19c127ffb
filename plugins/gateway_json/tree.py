"""Where things lie below the store's directory.

```
DIR/.lock                          who writes here
DIR/.index.sqlite                  derived: where each log row is; may be deleted while nobody writes
DIR/_pending.json                  a step of several rows that is being applied; gone when it is complete
DIR/<kind>/<key>.json              one file a key: states, counters and queues
DIR/<kind>/YYYY-MM-DD.jsonl        one file a UTC day of the time field: logs
DIR/tenant=<id>/<kind>/...         the same for every tenant but the default one
```
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.records.kind import KindSpec
from gateway.records.row import Key
from gateway.records.stamp import DEFAULT_TENANT
from gateway_json.names import encode_key, encode_text

__all__ = ["Tree", "names_in"]

_TENANT: Final = "tenant="
_DAY: Final = re.compile(r"(\d{4}-\d{2}-\d{2})\.jsonl", re.ASCII)


class Tree:
    """Paths of one store.

    Args:
        root: The store's directory.
    """

    __slots__ = ("root",)

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def lock(self) -> Path:
        """The file whose lock the writer holds."""
        return self.root / ".lock"

    @property
    def index(self) -> Path:
        """The derived index of log rows."""
        return self.root / ".index.sqlite"

    @property
    def pending(self) -> Path:
        """The step that is being applied."""
        return self.root / "_pending.json"

    def check(self) -> None:
        """Raise `FileNotFoundError` or `NotADirectoryError` if the store's directory is gone.

        A missing directory of a kind means that nothing was stored; a missing root means that the store is
        down.
        """
        if not stat.S_ISDIR(os.stat(self.root).st_mode):  # noqa: PTH116  Path.is_dir would hide why it is not there
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self.root))

    def scope(self, kind: KindSpec, tenant: str) -> Path:
        """Return the directory of a kind and a tenant."""
        base = self.root if tenant == DEFAULT_TENANT else self.root / f"{_TENANT}{encode_text(tenant)}"
        return base / encode_text(kind.name)

    def scopes(self, kind: KindSpec) -> Iterator[Path]:
        """Yield the existing directories of a kind, of all tenants."""
        bases = [self.root, *(path for path in self.root.iterdir() if path.name.startswith(_TENANT))]
        for base in sorted(bases):
            path = base / encode_text(kind.name)
            if path.is_dir():
                yield path

    def name_of(self, scope: Path) -> str:
        """Return a scope's directory relative to the root, the same on every system."""
        return scope.relative_to(self.root).as_posix()

    def state(self, kind: KindSpec, tenant: str, key: Key) -> Path:
        """Return the file of a key."""
        return self.scope(kind, tenant) / f"{encode_key(kind, key)}.json"

    def day(self, kind: KindSpec, tenant: str, day: str) -> Path:
        """Return the file of a day."""
        return self.scope(kind, tenant) / f"{day}.jsonl"

    def days(self, scope: Path) -> list[str]:
        """Return the days that a log has files for, in order."""
        found = [match[1] for name in names_in(scope) if (match := _DAY.fullmatch(name))]
        return sorted(found)


def names_in(directory: Path) -> list[str]:
    """Return the names in a directory; none if nothing was ever stored there."""
    try:
        return os.listdir(directory)  # noqa: PTH208  names alone: building a Path for each costs ten times as much
    except FileNotFoundError:
        return []
