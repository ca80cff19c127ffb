"""Runs migrations on the connection that `gateway.sql.schema` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

config = context.config
metadata = config.attributes.get("metadata")

if context.is_offline_mode():
    context.configure(
        dialect_name=config.attributes["dialect"],
        target_metadata=metadata,
        literal_binds=True,
        transactional_ddl=True,
    )
else:
    context.configure(
        connection=config.attributes["connection"],
        target_metadata=metadata,
        compare_type=True,
        # SQLite cannot alter most of a table in place; Alembic then makes a new one and copies.
        render_as_batch=True,
        transactional_ddl=True,
    )

with context.begin_transaction():
    context.run_migrations()
