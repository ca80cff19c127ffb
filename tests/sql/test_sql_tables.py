"""Tables, names and fingerprints made from kinds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.schema import CreateTable

from gateway.errors import CapabilityError
from gateway.records import CANDLES, TRADES, KindSpec, Shape
from gateway.records.builtin import BUILTIN_KINDS
from gateway.sql.dialect import SQLITE
from gateway.sql.fingerprints import fingerprint_of, index_name
from gateway.sql.tables import metadata_of, table_of

NAME = st.from_regex(r"\A[a-z][a-z0-9]{0,8}(_[a-z0-9]{1,8}){0,3}\Z")


def test_a_table_has_the_gateway_columns_first() -> None:
    """Tenant, version, digest and deletion stand before the kind's own fields, and none may be missing."""
    columns = list(table_of(TRADES, sa.MetaData()).columns)
    assert [column.name for column in columns[:5]] == [
        "tenant_id",
        "version",
        "digest",
        "deleted",
        "record_id",
    ]
    assert [column.nullable for column in columns[:5]] == [False] * 5
    assert all(column.nullable for column in columns[5:]), "a tombstone keeps only its key and its time"


def test_the_key_ends_with_the_tenant() -> None:
    """The primary key is the kind's key and the tenant: no tenant can take the row of another."""
    table = table_of(CANDLES, sa.MetaData())
    assert [column.name for column in table.primary_key] == ["symbol", "interval", "timestamp", "tenant_id"]


def test_types_keep_values_exactly(everything: KindSpec) -> None:
    """Money and JSON are text, times and flags whole numbers, floats REAL."""
    text = str(CreateTable(table_of(everything, sa.MetaData())))
    for line in (
        "at INTEGER",
        "name TEXT",
        "whole INTEGER",
        "ratio REAL",
        "flag INTEGER",
        "price TEXT",
        "extra TEXT",
    ):
        assert line in text
    assert "DEFAULT" not in text


def test_an_unknown_dialect_is_refused() -> None:
    """A database without column types is named, and so are those that have them."""
    with pytest.raises(CapabilityError, match=r"'oracle'.*sqlite"):
        table_of(TRADES, sa.MetaData(), replace(SQLITE, name="oracle"))


def test_no_index_carries_the_tenant() -> None:
    """Thirty-six bytes in every entry of every index would cost a fifth of each write."""
    indexes = [index for table in metadata_of(BUILTIN_KINDS).tables.values() for index in table.indexes]
    assert len(indexes) > 10
    assert all("tenant_id" not in index.columns for index in indexes)


def test_index_names_do_not_collide_across_kinds() -> None:
    """Kind `a` with an index on `b_c` and kind `a_b` with one on `c` are told apart."""
    assert index_name("a", ("b_c",)) != index_name("a_b", ("c",))
    assert index_name("a", ("b", "c")) != index_name("a", ("b_c",))


@given(kind=NAME, fields=st.lists(NAME, min_size=1, max_size=6).map(tuple))
def test_index_names_fit(kind: str, fields: tuple[str, ...]) -> None:
    """An index name is at most 60 characters and the same each time."""
    assert len(index_name(kind, fields)) <= 60
    assert index_name(kind, fields) == index_name(kind, fields)


@given(
    one=st.lists(NAME, min_size=3, max_size=9).map(tuple),
    two=st.lists(NAME, min_size=3, max_size=9).map(tuple),
)
def test_shortened_index_names_stay_apart(one: tuple[str, ...], two: tuple[str, ...]) -> None:
    """Different fields give different names, also where the name had to be cut."""
    assert (index_name("kind", one) == index_name("kind", two)) is (one == two)


def test_fingerprints_follow_what_matters_to_a_table(everything: KindSpec) -> None:
    """Columns, key and indexes change a fingerprint; retention and caching do not."""
    base = fingerprint_of(everything)
    assert fingerprint_of(replace(everything, cacheable=True)) == base
    assert fingerprint_of(replace(everything, indexes=(("at", "record_id"),))) != base
    assert fingerprint_of(replace(everything, name="other")) != base
    keyed = KindSpec("everything", everything.model, key=("whole",), shape=Shape.STATE)
    assert fingerprint_of(keyed) != base
