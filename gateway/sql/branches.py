"""Lines of revisions: ours, and those that other packages ship for tables of their own.

A package announces its line by an entry point of the group `storage_gateway.migrations`: the name is the branch, the
value a package that has a directory `versions` with Alembic scripts. Each line is numbered by itself and keeps its
place in a version table of its own, so that no package can stand in the way of ours, or of another's, by its numbers
or by being gone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from alembic.config import Config
from alembic.script import ScriptDirectory

from gateway.errors import SchemaTooNewError
from gateway.sql import migrations
from gateway.sql.migrations import REVISIONS, refuse_newer

__all__ = ["MIGRATIONS", "BrokenLine", "Line", "discover_lines", "our_line"]

MIGRATIONS: Final = "storage_gateway.migrations"
"""Entry point group of packages that ship revisions."""

_NAME: Final = re.compile(r"^[a-z][a-z0-9_]{0,39}$")
_HOME: Final = Path(migrations.__file__).parent


@dataclass(frozen=True, slots=True)
class Line:
    """One line of revisions.

    Attributes:
        name: The branch; empty for ours.
        owner: The distribution that ships it.
        folder: Directory of its scripts.
        revisions: All of them, the oldest first.
    """

    name: str
    owner: str
    folder: Path
    revisions: tuple[str, ...]

    @property
    def head(self) -> str:
        """The latest revision."""
        return self.revisions[-1]

    @property
    def version_table(self) -> str:
        """Where a store remembers how far it is."""
        return f"alembic_version_{self.name}" if self.name else "alembic_version"

    @property
    def what(self) -> str:
        """How sentences name the schema that it makes."""
        return f"branch {self.name} ({self.owner})" if self.name else "the schema"

    def config(self, **attributes: Any) -> Config:
        """Return a configuration that runs its scripts in the gateway's environment."""
        config = Config(output_buffer=attributes.pop("out", None))
        options = {
            "script_location": str(_HOME),
            "version_locations": str(self.folder),
            "path_separator": "newline",
        }
        for name, value in options.items():
            config.set_main_option(name, value.replace("%", "%%"))
        config.attributes.update(attributes, version_table=self.version_table)
        return config

    def refuse_newer(self, revision: str | None, backend: str) -> None:
        """Stop at a schema that a newer release of the owner made.

        Raises:
            SchemaTooNewError: The revision is unknown here; nothing was touched.
        """
        if not self.name:
            refuse_newer(revision, backend)
        elif revision is not None and revision not in self.revisions:
            raise SchemaTooNewError(
                f"branch {self.name} is at revision {revision}, which the installed {self.owner} does not know (it "
                f"knows up to {self.head}): nothing was touched; upgrade {self.owner}",
                backend=backend,
            )


@dataclass(frozen=True, slots=True)
class BrokenLine:
    """A line of another package that cannot be used.

    Attributes:
        name: The branch.
        owner: The distribution that ships it.
        reason: What is wrong.
    """

    name: str
    owner: str
    reason: str

    @property
    def sentence(self) -> str:
        """What is wrong and what to do."""
        return f"branch {self.name} ({self.owner}) {self.reason}; update or reinstall {self.owner}"


def our_line() -> Line:
    """Return the gateway's own revisions."""
    return Line("", "storage-gateway", _HOME / "versions", REVISIONS)


def _installed() -> Iterable[EntryPoint]:
    return entry_points(group=MIGRATIONS)


def discover_lines(
    installed: Callable[[], Iterable[EntryPoint]] = _installed,
) -> tuple[tuple[Line, ...], tuple[BrokenLine, ...]]:
    """Return the lines of other packages in the order of their names, and those that cannot be used.

    A package that is broken takes nothing but its own line away.
    """
    found = sorted(installed(), key=lambda entry: (entry.name, entry.value))
    count = Counter(entry.name for entry in found)
    lines, broken = [], []
    for entry in found:
        owner = entry.dist.name if entry.dist is not None else "unknown"
        if count[entry.name] > 1:
            broken.append(BrokenLine(entry.name, owner, "is shipped by several packages"))
            continue
        try:
            lines.append(_line(entry.name, owner, entry.value))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign scripts may raise anything; it is reported
            broken.append(BrokenLine(entry.name, owner, f"cannot be used: {_brief(error)}"))
    return tuple(lines), tuple(broken)


def _line(name: str, owner: str, package: str) -> Line:
    if not _NAME.match(name):
        raise ValueError(
            "its name must be lower case letters, digits and underscores, at most 40, a letter first"
        )
    spec = find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    folder = next((place for place in (Path(item) / "versions" for item in places) if place.is_dir()), None)
    if folder is None:
        raise ValueError(f"{package} is no package with a directory `versions`")
    return Line(name, owner, folder, _revisions(name, owner, folder))


@lru_cache(maxsize=64)
def _revisions(name: str, owner: str, folder: Path) -> tuple[str, ...]:
    """Read the scripts once a process; Alembic imports every one of them."""
    scripts = ScriptDirectory.from_config(Line(name, owner, folder, ()).config())
    heads = scripts.get_heads()
    if len(heads) != 1:
        raise ValueError(f"it has {len(heads)} latest revisions where one belongs")
    return tuple(script.revision for script in reversed(list(scripts.walk_revisions())))


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
