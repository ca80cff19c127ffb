"""Looking up rows by their keys, and what the rows of a tenant can be, as SQL text. Pure."""

# ruff: noqa: S608 - names come from registered kinds and are quoted; values are parameters, or made here

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.query import Condition, Op
from gateway.records.row import Key
from gateway_questdb.conditions import Literals, Parameters, condition_text
from gateway_questdb.layout import ORIGIN, Layout, quoted
from gateway_questdb.origins import Origin, mark_of
from gateway_questdb.statements import Parts, Statement, row_columns, rows_text, shown

__all__ = ["by_keys", "loose_count", "loose_ids", "origin_of_tenant", "stamps_of", "versions_of"]

_ENDLESS: Final = 2**62


def by_keys(layout: Layout, tenant: str, keys: Sequence[Key]) -> Statement:
    """Return the statement for the rows of some keys, in any order."""
    parts, into = Parts(), Parameters()
    mark = into.add(tenant)
    parts.below.append(_key_test(layout, keys, into))
    return Statement(rows_text(layout, Origin.LOOSE, parts, mark, row_columns(layout)), into.values)


def stamps_of(layout: Layout, tenant: str, keys: Sequence[Key]) -> Statement:
    """Return the statement for the newest stamp of some keys: version, digest, and the key's values."""
    parts, into = Parts(), Parameters()
    mark = into.add(tenant)
    parts.below.append(_key_test(layout, keys, into))
    told = ", ".join(['"version"', '"digest"', *(shown(layout, name) for name in layout.kind.key)])
    return Statement(rows_text(layout, Origin.LOOSE, parts, mark, told), into.values)


def _key_test(layout: Layout, keys: Sequence[Key], into: Parameters) -> str:
    names = layout.kind.key
    if len(names) == 1:
        test, _ = condition_text(layout, Condition(names[0], Op.IN, tuple(key[0] for key in keys)), into)
        return test
    tests = []
    for key in keys:
        pairs = (Condition(name, Op.EQ, value) for name, value in zip(names, key, strict=True))
        tests.append(" AND ".join(condition_text(layout, pair, into)[0] for pair in pairs))
    return f"({' OR '.join(f'({test})' for test in tests)})"


def origin_of_tenant(layout: Layout, tenant: str, origin: Origin) -> Statement:
    """Return the statement that has a row if any row of a tenant is of an origin."""
    into = Parameters()
    text = f"SELECT 1 FROM {quoted(layout.table)} WHERE {quoted(ORIGIN)} = {into.add(mark_of(origin, tenant))} LIMIT 1"
    return Statement(text, into.values)


def versions_of(
    layout: Layout, tenant: str, ids: Sequence[str], least: int, origin: Origin | None
) -> Statement:
    """Return the statement for versions of log rows: id, version and digest.

    Args:
        layout: Of a log.
        tenant: Whose rows.
        ids: Which rows.
        least: No versions older than this.
        origin: Only versions of this origin, which are found without a look at the others; None for all.
    """
    into = Parameters()
    whose = (
        f"tenant_id = {into.add(tenant)}"
        if origin is None
        else f"{quoted(ORIGIN)} = {into.add(mark_of(origin, tenant))}"
    )
    name = quoted(layout.kind.key[0])
    # The limit keeps the server from testing the ids first, which takes a hundred times as long.
    inner = (
        f'SELECT {name}, "version", "digest" FROM {quoted(layout.table)} WHERE {whose} '
        f'AND "version" >= {into.add(least)} LIMIT {_ENDLESS}'
    )
    test = _key_test(layout, [(one,) for one in ids], into)
    return Statement(f'SELECT {name}, "version", "digest" FROM ({inner}) WHERE {test}', into.values)


def loose_ids(layout: Layout, tenant: str, most: int) -> Statement:
    """Return the statement for an export of the ids of a tenant's loose rows, no more than so many."""
    mark = Literals().add(mark_of(Origin.LOOSE, tenant))
    name = quoted(layout.kind.key[0])
    text = f"SELECT {name} FROM {quoted(layout.table)} WHERE {quoted(ORIGIN)} = {mark} LIMIT {most:d}"
    return Statement(text, ())


def loose_count(layout: Layout, tenant: str) -> Statement:
    """Return the statement that counts a tenant's loose rows."""
    into = Parameters()
    mark = into.add(mark_of(Origin.LOOSE, tenant))
    return Statement(
        f"SELECT count() FROM {quoted(layout.table)} WHERE {quoted(ORIGIN)} = {mark}", into.values
    )
