"""A package of a third party that brings a kind and the revisions of its table, as an installer would leave it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gateway.records import KindSpec, Text, Time
from gateway.records.kind import LogRecord

__all__ = ["FIRST", "SECOND", "labelled", "package", "shipments"]


class Shipment(LogRecord):
    """The kind in the first release."""

    at: Time
    parcel: Text


class LabelledShipment(LogRecord):
    """The kind in the second release, in which a field has got another name."""

    at: Time
    label: Text


def shipments() -> KindSpec:
    """Return the kind of the first release."""
    return KindSpec("shipments", Shipment, time_field="at", schema="acme")


def labelled() -> KindSpec:
    """Return the kind of the second release."""
    return KindSpec("shipments", LabelledShipment, time_field="at", schema="acme")


FIRST = """
from gateway.records.types import StorageType
from gateway.sql.migrations.here import create, drop, need_schemas
from gateway.sql.shapes import TableShape

revision, down_revision, branch_labels, depends_on = "0001", None, None, None


def upgrade():
    need_schemas("acme")
    create(
        TableShape(
            name="shipments",
            schema="acme",
            key=("record_id",),
            columns=(("record_id", StorageType.TEXT), ("at", StorageType.TIME), ("parcel", StorageType.TEXT)),
            time="at",
            log=True,
        )
    )


def downgrade():
    drop("shipments", "acme")
"""

SECOND = """
from alembic import op

from gateway.sql.migrations.here import layout_here

revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None


def rename(old, new):
    table = "shipments" if layout_here().dialect == "sqlite" else "acme.shipments"
    op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")


def upgrade():
    rename("parcel", "label")


def downgrade():
    rename("label", "parcel")
"""


def package(
    site: Path,
    scripts: Mapping[str, str],
    *,
    module: str = "acme_ledger",
    branch: str = "acme",
    version: str = "1.0",
) -> Path:
    """Write a distribution with revisions into a directory for `sys.path`, and return the directory.

    Args:
        site: The directory.
        scripts: Text of each script by its name without `.py`.
        module: Name of the package; the distribution has hyphens for underscores.
        branch: Name of its entry point.
        version: Version of the distribution.
    """
    versions = site / module / "versions"
    versions.mkdir(parents=True)
    (site / module / "__init__.py").touch()
    for name, text in scripts.items():
        (versions / f"{name}.py").write_text(text)
    info = site / f"{module}-{version}.dist-info"
    info.mkdir()
    name = module.replace("_", "-")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[storage_gateway.migrations]\n{branch} = {module}\n")
    return site
