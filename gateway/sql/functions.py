"""Functions of the gateway's own in a PostgreSQL database: what makes partitions ahead.

A bot calls `gateway.make_partitions()` once a day. It runs with the rights of the owner of the tables, takes no
argument, and makes nothing but what the owner wrote into `gateway.partitioned_tables`; so a bot whose login may not
change the schema keeps it in order all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.sql.dialect import quoted
from gateway.sql.layout import OWN_SCHEMA, Group, Layout

__all__ = ["FUNCTIONS", "Function", "function_statements"]


@dataclass(frozen=True, slots=True)
class Function:
    """One function in the gateway's schema.

    Attributes:
        name: Its name, without the schema.
        arguments: Their types, by which it is told from others of the name.
        head: What stands between name and body.
        body: Its text; the database gives back exactly this.
        callers: Which groups may call it.
    """

    name: str
    arguments: str
    head: str
    body: str
    callers: frozenset[Group]

    @property
    def signature(self) -> str:
        """How statements name it."""
        return f"{OWN_SCHEMA}.{self.name}({self.arguments})"


_BOUNDS: Final = """
    SELECT c.relname::text,
           coalesce((regexp_match(b.text, 'FROM \\(''([^'']+)''\\)'))[1]::timestamptz, '-infinity'),
           coalesce((regexp_match(b.text, 'TO \\(''([^'']+)''\\)'))[1]::timestamptz, 'infinity')
      FROM pg_inherits i
      JOIN pg_class c ON c.oid = i.inhrelid
     CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS text) b
     WHERE i.inhparent = parent AND b.text <> 'DEFAULT'
"""

_MAKE_ONE: Final = """
DECLARE
    place text;
    rest text;
    grantee oid;
    keeper name;
    moved bigint := 0;
BEGIN
    SELECT format('%I.%I', n.nspname, part), format('%I.%I', n.nspname, c.relname || '_default') INTO STRICT place, rest
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = parent;
    EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL)', place, parent);
    IF time_column IS NOT NULL THEN
        EXECUTE format('WITH gone AS (DELETE FROM %s WHERE %I >= %L AND %I < %L RETURNING *) '
                       'INSERT INTO %s SELECT * FROM gone',
                       rest, time_column, lower_bound, time_column, upper_bound, place);
        GET DIAGNOSTICS moved = ROW_COUNT;
    END IF;
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', place);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', place);
    -- Default privileges may have given rights that would lead past the policies of the parent.
    FOR grantee IN SELECT DISTINCT a.grantee FROM pg_class c, aclexplode(c.relacl) a
                    WHERE c.oid = to_regclass(place) AND a.grantee <> c.relowner LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', place,
                       CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END);
    END LOOP;
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)',
                   parent, place, lower_bound, upper_bound);
    -- An operator may be another role than the owner, who must be able to drop it some day.
    SELECT pg_get_userbyid(p.relowner) INTO keeper FROM pg_class p JOIN pg_class c ON c.relowner <> p.relowner
     WHERE p.oid = parent AND c.oid = to_regclass(place);
    IF keeper IS NOT NULL THEN
        EXECUTE format('ALTER TABLE %s OWNER TO %I', place, keeper);
    END IF;
    RETURN moved;
END
"""

_MAKE_ALL: Final = """
DECLARE
    one record;
    step interval;
    nominal timestamptz;
    begins timestamptz;
    ends timestamptz;
    beyond timestamptz;
BEGIN
    -- Whoever comes second leaves it to the first.
    IF NOT pg_try_advisory_xact_lock(hashtextextended('gateway.make_partitions', 0)) THEN
        RETURN;
    END IF;
    FOR one IN
        SELECT p.table_schema, p.table_name, p.step, p.ahead, c.oid::regclass AS parent
          FROM gateway.partitioned_tables p
          JOIN pg_namespace n ON n.nspname = p.table_schema
          JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.table_name AND c.relkind = 'p'
         WHERE p.style = 'native'
         ORDER BY p.table_schema, p.table_name
    LOOP
        step := ('1 ' || one.step)::interval;
        <<spans>>
        FOR number IN 0 .. one.ahead LOOP
            nominal := date_trunc(one.step, now()) + number * step;
            begins := nominal;
            WHILE begins < nominal + step LOOP
                -- What older partitions, perhaps of another length, cover is left out.
                SELECT max(b.upper_bound) INTO beyond FROM gateway.partition_bounds(one.parent) b
                 WHERE b.lower_bound <= begins AND b.upper_bound > begins;
                IF beyond IS NOT NULL THEN
                    begins := beyond;
                    CONTINUE;
                END IF;
                SELECT min(b.lower_bound) INTO beyond FROM gateway.partition_bounds(one.parent) b
                 WHERE b.lower_bound > begins;
                ends := least(nominal + step, beyond);
                name := one.table_name || '_p' || to_char(begins, CASE
                    WHEN begins <> nominal OR one.step = 'day' THEN 'YYYYMMDD'
                    WHEN one.step = 'month' THEN 'YYYYMM' ELSE 'IYYY"w"IW' END);
                BEGIN
                    PERFORM gateway.make_partition(one.parent, name, begins, ends, NULL);
                    outcome := 'made';
                EXCEPTION
                    WHEN check_violation THEN
                        outcome := 'rows of that time lie in the default partition: run `gateway maintain`';
                    WHEN lock_not_available THEN
                        outcome := 'the table is busy: the next run makes it';
                    WHEN insufficient_privilege THEN
                        outcome := 'the owner of the schema does not own the table: ' || sqlerrm;
                    WHEN duplicate_table THEN
                        outcome := 'there is another table of that name';
                END;
                RETURN NEXT;
                -- What was made already stays locked meanwhile, so a table in use is waited for once.
                EXIT spans WHEN outcome LIKE 'the table is busy%';
                begins := ends;
            END LOOP;
        END LOOP;
    END LOOP;
END
"""

# Half a second is less than a server waits before it looks for deadlocks: the one to give way is always this function.
_SETTINGS: Final = "SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD'"
_YIELDING: Final = f"{_SETTINGS} SET lock_timeout = '500ms'"

FUNCTIONS: Final = (
    Function(
        "partition_bounds",
        "regclass",
        "(parent regclass) RETURNS TABLE (name text, lower_bound timestamptz, upper_bound timestamptz)"
        f" LANGUAGE sql STABLE {_SETTINGS}",
        _BOUNDS,
        frozenset(Group),
    ),
    Function(
        "make_partition",
        "regclass, text, timestamptz, timestamptz, text",
        "(parent regclass, part text, lower_bound timestamptz, upper_bound timestamptz, time_column text)"
        " RETURNS bigint"
        f" LANGUAGE plpgsql {_SETTINGS}",
        _MAKE_ONE,
        frozenset(),
    ),
    Function(
        "make_partitions",
        "",
        f"() RETURNS TABLE (name text, outcome text) LANGUAGE plpgsql SECURITY DEFINER {_YIELDING}",
        _MAKE_ALL,
        frozenset({Group.APP, Group.ADMIN}),
    ),
)


def function_statements(function: Function, layout: Layout) -> list[str]:
    """Return the statements that make a function, or bring it up to date, and say who may call it."""
    found = [
        f"CREATE OR REPLACE FUNCTION {OWN_SCHEMA}.{function.name}{function.head} AS $gateway${function.body}$gateway$",
        f"REVOKE ALL ON FUNCTION {function.signature} FROM PUBLIC",
    ]
    return found + [
        f"GRANT EXECUTE ON FUNCTION {function.signature} TO {quoted(layout.role(group))}"
        for group in Group
        if group in layout.groups & function.callers
    ]
