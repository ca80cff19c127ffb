"""Write the next frozen revision of the SQL schema: what the built-in kinds need beyond the latest one.

Run it after changing a built-in kind, look at what it wrote, then add the new number to `REVISIONS` in
gateway/sql/migrations/__init__.py. One revision serves every database: it says what changes, and
`gateway.sql.migrations.here` how.

    python scripts/new_revision.py "positions: add leverage"
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import sqlalchemy as sa
from alembic.autogenerate import produce_migrations
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext

from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.kind import KindSpec
from gateway.sql import migrations
from gateway.sql.intents import SQLITE_INTENTS
from gateway.sql.schema import Schema
from gateway.sql.shapes import shape_of
from gateway.sql.tables import metadata_of

VERSIONS = Path(migrations.__file__).parent / "versions"
HEADER = '''"""{message}.

Frozen: this is what the tables looked like then, whatever the kinds look like now.
"""

from __future__ import annotations

from gateway.records.types import StorageType
from gateway.sql.migrations.here import {names}
from gateway.sql.shapes import TableShape

revision = "{revision}"
down_revision = "{down}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the revision."""
    {upgrades}


def downgrade() -> None:
    """Take the revision back."""
    {downgrades}
'''

Step = tuple[str, str]
"""The call that makes a change, and the one that takes it back; empty where nothing has to."""


def main(message: str) -> int:
    """Write the file and say where it is."""
    revision = f"{len(migrations.REVISIONS) + 1:04d}"
    steps = list(changes(differences()))
    if not steps:
        print("the latest revision gives exactly what the built-in kinds need; there is nothing to write")
        return 1
    slug = re.sub(r"[^a-z0-9]+", "_", message.lower()).strip("_")[:40]
    path = VERSIONS / f"rev_{revision}_{slug}.py"
    calls = [call for step in steps for call in step if call]
    path.write_text(
        HEADER.format(
            message=message,
            names=", ".join(sorted({call.partition("(")[0] for call in calls})),
            revision=revision,
            down=migrations.HEAD,
            upgrades="\n    ".join(up for up, _ in steps),
            downgrades="\n    ".join(down for _, down in reversed(steps) if down),
        )
    )
    print(f"wrote {path}; run ruff check --fix and format on it, read it, and add {revision!r} to REVISIONS")
    return 0


def differences() -> list[ops.MigrateOperation]:
    """Return the operations from the latest revision to the kinds, as they are in SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        engine = sa.create_engine(f"sqlite:///{folder}/revision.db")
        Schema(engine, ()).upgrade()
        with engine.connect() as connection:
            options = {"compare_type": True, "include_name": lambda name, *_: name != SQLITE_INTENTS}
            context = MigrationContext.configure(connection, opts=options)
            script = produce_migrations(context, metadata_of(BUILTIN_KINDS))
        engine.dispose()
    return flat(script.upgrade_ops_list)


def flat(operations: Iterable[ops.MigrateOperation]) -> list[ops.MigrateOperation]:
    """Return operations without the groups that Alembic puts them in."""
    found: list[ops.MigrateOperation] = []
    for operation in operations:
        inner = getattr(operation, "ops", None)
        found += flat(inner) if inner is not None else [operation]
    return found


def changes(operations: Iterable[ops.MigrateOperation]) -> Iterator[Step]:
    """Return the calls for operations. Whatever loses something is left to a person, who must say how.

    Raises:
        SystemExit: There is such a change.
    """
    kinds = {kind.name: kind for kind in BUILTIN_KINDS}
    created = set()
    for operation in operations:
        kind = kinds.get(getattr(operation, "table_name", ""))
        if isinstance(operation, ops.CreateTableOp) and kind is not None:
            created.add(kind.name)
            yield f"need_schemas({kind.schema!r})", ""
            yield f"create({spelled(kind)})", f"drop({kind.name!r}, {kind.schema!r})"
        elif isinstance(operation, ops.AddColumnOp) and kind is not None:
            yield field(kind, operation.column.name)
        elif isinstance(operation, ops.CreateIndexOp) and kind is not None:
            if kind.name not in created:
                yield index(kind, tuple(str(getattr(column, "name", column)) for column in operation.columns))
        else:
            sys.exit(
                f"{operation.to_diff_tuple()}: this loses or moves something; write that revision by hand"
            )


def spelled(kind: KindSpec) -> str:
    """Return the shape of a kind as code."""
    return re.sub(r"<(StorageType\.\w+): '\w+'>", r"\1", repr(shape_of(kind)))


def field(kind: KindSpec, name: str) -> Step:
    """Return the calls for a new field."""
    storage = f"StorageType.{kind.field_spec(name).storage.name}"
    arguments = f"({kind.name!r}, {kind.schema!r}, {name!r}, {storage})"
    return f"add_field{arguments}", f"drop_field{arguments}"


def index(kind: KindSpec, fields: tuple[str, ...]) -> Step:
    """Return the calls for a new index."""
    arguments = f"({kind.name!r}, {kind.schema!r}, {fields!r})"
    return f"add_index{arguments}", f"drop_index{arguments}"


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:]) or "change of the built-in kinds"))
