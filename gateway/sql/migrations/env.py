"""Runs migrations on the connection that `gateway.sql.schema` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

config = context.config
options = {
    "target_metadata": config.attributes.get("metadata"),
    "gateway_layout": config.attributes["layout"],
    "gateway_made": config.attributes["made"],
    "version_table": config.attributes["version_table"],
    "version_table_schema": config.attributes["version_schema"],
    # Whoever hands over the connection, or puts the printed statements together, begins and ends the transaction.
    "transactional_ddl": config.attributes["own_transaction"],
}

if context.is_offline_mode():
    context.configure(dialect_name=config.attributes["layout"].dialect, literal_binds=True, **options)
else:
    context.configure(
        connection=config.attributes["connection"],
        compare_type=True,
        # SQLite cannot alter most of a table in place; Alembic then makes a new one and copies.
        render_as_batch=True,
        **options,
    )

with context.begin_transaction():
    context.run_migrations()
