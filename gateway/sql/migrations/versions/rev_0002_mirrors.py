"""What has yet to reach a mirror, and how the way to each mirror stands.

Frozen: this is what the tables were at first, whatever the kinds look like now.
"""

from __future__ import annotations

from typing import Final

from alembic import op

from gateway.records.types import StorageType
from gateway.sql.creation import intents_creation, intents_removal
from gateway.sql.migrations.here import create, drop, layout_here, need_schemas
from gateway.sql.shapes import TableShape

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT: Final = StorageType.TEXT
INTEGER: Final = StorageType.INTEGER
BOOLEAN: Final = StorageType.BOOLEAN
TIME: Final = StorageType.TIME

MIRROR_STATES: Final = TableShape(
    name="mirror_states",
    schema="supporting",
    key=("target",),
    columns=(
        ("target", TEXT),
        ("paused", BOOLEAN),
        ("paused_at", TIME),
        ("paused_by", TEXT),
        ("pause_reason", TEXT),
        ("relay_owner", TEXT),
        ("relay_where", TEXT),
        ("relay_until", TIME),
        ("circuit", TEXT),
        ("last_error", TEXT),
        ("last_error_at", TIME),
        ("refused", INTEGER),
        ("suspended", BOOLEAN),
        ("behind_since", INTEGER),
        ("behind_reason", TEXT),
        ("resumed_at", TIME),
    ),
)


def upgrade() -> None:
    """Create the table of intents, and the one that says how the ways to mirrors stand."""
    need_schemas(MIRROR_STATES.schema)
    for statement in intents_creation(layout_here()):
        op.execute(statement)
    create(MIRROR_STATES)


def downgrade() -> None:
    """Drop what `upgrade` created, and with it what has yet to reach a mirror."""
    drop(MIRROR_STATES.name, MIRROR_STATES.schema)
    for statement in intents_removal(layout_here()):
        op.execute(statement)
