"""Who may see what in PostgreSQL: row security and the rights of the group roles, as statements.

Every table answers for one tenant at a time, the one that the transaction was told of by `app.tenant_id`; members of
the admin group alone see all. Row security is forced, so that the owner of the tables is bound too. Partitions have
row security and no policy, and nobody has rights on them: whoever asked a partition directly would go past the
policies of its table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.sql.dialect import quoted
from gateway.sql.layout import Group, Layout

__all__ = [
    "ADMIN_POLICY",
    "INTENT_RIGHTS",
    "OWN_RIGHTS",
    "TABLE_RIGHTS",
    "TENANT_POLICY",
    "TENANT_TEST",
    "admin_policy",
    "grants",
    "protect",
    "schema_grants",
    "tenant_policy",
]

TENANT_POLICY: Final = "tenant_rows"
ADMIN_POLICY: Final = "admin_rows"

TENANT_TEST: Final = "tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid"
"""NULLIF, since the setting is empty, not NULL, once a transaction on the same connection has set it."""

TABLE_RIGHTS: Final[Mapping[Group, tuple[str, ...]]] = {
    # No TRUNCATE, which no policy can hold back.
    Group.APP: ("SELECT", "INSERT", "UPDATE", "DELETE"),
    Group.READONLY: ("SELECT",),
    Group.ADMIN: ("SELECT", "INSERT", "UPDATE", "DELETE"),
}
"""What each group may do with the tables of kinds, within the policies."""

INTENT_RIGHTS: Final[Mapping[Group, tuple[str, ...]]] = {
    # An intent is written and removed, and never changed.
    group: tuple(right for right in rights if right != "UPDATE")
    for group, rights in TABLE_RIGHTS.items()
}
"""What each group may do with the table of intents, within the policies."""

OWN_RIGHTS: Final[Mapping[Group, tuple[str, ...]]] = dict.fromkeys(Group, ("SELECT",))
"""What each group may do with the tables that say how the schema is made."""


def protect(table: str) -> list[str]:
    """Return the statements that switch row security on for everybody, the owner included.

    Args:
        table: Its name with its schema, quoted.
    """
    return [f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY", f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY"]


def tenant_policy(table: str) -> str:
    """Return the statement that shows everybody the rows of the transaction's tenant, and lets write only those."""
    return f"CREATE POLICY {TENANT_POLICY} ON {table} USING ({TENANT_TEST}) WITH CHECK ({TENANT_TEST})"


def admin_policy(table: str, layout: Layout) -> str:
    """Return the statement that shows the admin group all rows."""
    role = quoted(layout.role(Group.ADMIN))
    return f"CREATE POLICY {ADMIN_POLICY} ON {table} TO {role} USING (true) WITH CHECK (true)"


def grants(table: str, layout: Layout, rights: Mapping[Group, tuple[str, ...]] = TABLE_RIGHTS) -> list[str]:
    """Return the statements that give the groups that exist their rights on a table."""
    return [
        f"GRANT {', '.join(rights[group])} ON {table} TO {quoted(layout.role(group))}"
        for group in Group
        if group in layout.groups
    ]


def schema_grants(schema: str, layout: Layout) -> list[str]:
    """Return the statements that let the groups that exist look into a schema."""
    roles = ", ".join(quoted(layout.role(group)) for group in Group if group in layout.groups)
    return [f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {roles}"] if roles else []
