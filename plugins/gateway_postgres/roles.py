"""The roles of a store, as SQL that a database administrator can read, change and run."""

from __future__ import annotations

import re
from typing import Final

from gateway.errors import ConfigurationError

__all__ = ["roles_sql"]

_PREFIX: Final = re.compile(r"^[a-z][a-z0-9_]{0,39}$")

_TEXT: Final = """\
-- Roles of a storage gateway on PostgreSQL. Run this once in the gateway's database, as a role that may create roles;
-- running it again changes nothing. Then run `gateway schema upgrade` as the owner of the tables, which gives these
-- groups their rights on each table, and gives them again for every table that it makes later.
--
-- The groups cannot log in. Whoever logs in is a member of one of them, and owns nothing.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{prefix}_app') THEN
        CREATE ROLE "{prefix}_app" NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{prefix}_readonly') THEN
        CREATE ROLE "{prefix}_readonly" NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{prefix}_admin') THEN
        CREATE ROLE "{prefix}_admin" NOLOGIN;
    END IF;
END
$$;

-- Bots. SELECT, INSERT, UPDATE and DELETE on the tables of records; no TRUNCATE, which row security does not hold back,
-- no right on partitions, which would lead past it, and no right to change the schema. A transaction sees the rows of
-- the one tenant that it names: set_config('app.tenant_id', '<uuid>', true).
COMMENT ON ROLE "{prefix}_app" IS 'storage gateway: bots; read and write the rows of one tenant at a time';

-- People and dashboards. SELECT, and row security as for bots.
COMMENT ON ROLE "{prefix}_readonly" IS 'storage gateway: look at the rows of one tenant at a time';

-- Operators. As bots, but the policy admin_rows shows them the rows of all tenants: for backups, and for looking into
-- things. It is not for bots: the gateway names the tenant in every query, yet the database would no longer insist.
COMMENT ON ROLE "{prefix}_admin" IS 'storage gateway: read and write the rows of all tenants';

-- The tenant is a setting, and whoever may run SQL of their own may set it. Row security keeps apart what the gateway
-- reads and writes for its tenants; a tenant that runs SQL of its own needs a database of its own.

-- Nothing is granted by default privileges, on purpose: they would also grant rights on each new partition. If there
-- are some in this database, `gateway schema upgrade` takes what they gave away from partitions again.

-- Temporary tables are used for large batches.
DO $$
BEGIN
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO "{prefix}_app", "{prefix}_readonly", "{prefix}_admin"',
                   current_database());
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'not granted: CONNECT, TEMPORARY on the database; its owner can';
END
$$;

-- Logins: names and limits are yours to choose; \\password asks for the password and leaves it in no history.
--
-- The owner of the tables, for `gateway schema upgrade` and `gateway maintain` (STORAGE_POSTGRES_ADMIN_URL). As a
-- member of the admin group it also makes backups: row security binds the owner too, and a backup needs all rows.
--   CREATE ROLE {prefix}_owner LOGIN IN ROLE "{prefix}_admin";
--   \\password {prefix}_owner
--   GRANT CREATE ON DATABASE trading TO {prefix}_owner;
--
-- A bot (STORAGE_POSTGRES_URL):
--   CREATE ROLE trading_bot LOGIN CONNECTION LIMIT 60 IN ROLE "{prefix}_app";
--   \\password trading_bot
--
-- Somebody who looks, at one tenant unless they name another:
--   CREATE ROLE analyst LOGIN CONNECTION LIMIT 5 IN ROLE "{prefix}_readonly";
--   ALTER ROLE analyst SET default_transaction_read_only = on;
--   ALTER ROLE analyst SET app.tenant_id = '00000000-0000-0000-0000-000000000000';
--   \\password analyst
--
-- In a database made before PostgreSQL 15, everybody may create tables in the schema public. To end that:
--   REVOKE CREATE ON SCHEMA public FROM PUBLIC;
"""


def roles_sql(prefix: str = "gateway") -> str:
    """Return the statements that make the group roles, with what each may do and how to make logins.

    Args:
        prefix: The roles are called `<prefix>_app`, `<prefix>_readonly` and `<prefix>_admin`.

    Raises:
        ConfigurationError: The prefix is no plain name.
    """
    if not _PREFIX.match(prefix):
        raise ConfigurationError(
            "a prefix of roles is lower case letters, digits and underscores, at most 40"
        )
    return _TEXT.replace("{prefix}", prefix)
