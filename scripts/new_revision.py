"""Write the next frozen revision of the SQL schema: what the built-in kinds need beyond the latest one.

Run it after changing a built-in kind, look at what it wrote, then add the new number to `REVISIONS` in
gateway/sql/migrations/__init__.py:

    python scripts/new_revision.py "positions: add leverage"
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import sqlalchemy as sa
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.operations.ops import MigrateOperation, UpgradeOps
from alembic.runtime.migration import MigrationContext

from gateway.records.builtin import BUILTIN_KINDS
from gateway.sql import migrations
from gateway.sql.schema import Schema
from gateway.sql.tables import metadata_of

VERSIONS = Path(migrations.__file__).parent / "versions"
HEADER = '''"""{message}.

Frozen: this is what the tables looked like then, whatever the kinds look like now.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{down}"
branch_labels = None
depends_on = None
'''


def main(message: str) -> int:
    """Write the file and say where it is."""
    revision = f"{len(migrations.REVISIONS) + 1:04d}"
    upgrades, downgrades = differences()
    if not upgrades:
        print("the latest revision gives exactly what the built-in kinds need; there is nothing to write")
        return 1
    slug = re.sub(r"[^a-z0-9]+", "_", message.lower()).strip("_")[:40]
    path = VERSIONS / f"rev_{revision}_{slug}.py"
    text = HEADER.format(message=message, revision=revision, down=migrations.HEAD)
    text += step("upgrade", "Apply the revision.", upgrades) + step(
        "downgrade", "Take the revision back.", downgrades
    )
    path.write_text(text)
    print(f"wrote {path}; run ruff format on it, read it, and add {revision!r} to REVISIONS")
    return 0


def differences() -> tuple[list[MigrateOperation], list[MigrateOperation]]:
    """Return the operations from the latest revision to the kinds, and back."""
    with tempfile.TemporaryDirectory() as folder:
        engine = sa.create_engine(f"sqlite:///{folder}/revision.db")
        Schema(engine, ()).upgrade()
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "render_as_batch": True}
            )
            script = produce_migrations(context, metadata_of(BUILTIN_KINDS))
        engine.dispose()
    return flat(script.upgrade_ops_list), flat(script.downgrade_ops_list)


def flat(operations: Iterable[MigrateOperation]) -> list[MigrateOperation]:
    """Return operations without the groups that Alembic puts them in."""
    found: list[MigrateOperation] = []
    for operation in operations:
        inner = getattr(operation, "ops", None)
        found += flat(inner) if inner is not None else [operation]
    return found


def step(name: str, doc: str, operations: list[MigrateOperation]) -> str:
    """Return one function of the revision, with a function of its own for each table it touches."""
    groups: dict[str, list[MigrateOperation]] = {}
    for operation in operations:
        groups.setdefault(getattr(operation, "table_name", "other"), []).append(operation)
    calls = "\n".join(f"    _{name}_{table}()" for table in groups)
    text = f'\n\ndef {name}() -> None:\n    """{doc}"""\n{calls}\n'
    for table, group in groups.items():
        body = render_python_code(UpgradeOps(group), render_as_batch=True)
        body = "\n".join(line for line in body.splitlines() if not line.strip().startswith("#"))
        text += f"\n\ndef _{name}_{table}() -> None:\n    {body.strip()}\n"
    return text


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:]) or "change of the built-in kinds"))
