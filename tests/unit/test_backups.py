"""Names of backups, which are too many, and when the next is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backups import (
    BackupName,
    free_name,
    listed,
    newest,
    next_due,
    parse_interval,
    parse_name,
    refuse_unrestorable,
    surplus,
)
from gateway.errors import ConfigurationError, SchemaError, StoreCorruptError
from gateway.records.builtin import BUILTIN_KINDS
from gateway.retention import expired_before, expiring
from gateway.upkeep import BackupReport

NOW = datetime(2026, 11, 21, 15, 1, 2, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC, microsecond=0)
)
NAMES = st.builds(
    BackupName,
    st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True),
    MOMENTS,
    st.integers(0, 20),
    st.sampled_from([".db", ".jsonl.gz"]),
)


@given(NAMES)
def test_a_name_says_what_it_was_made_from(name: BackupName) -> None:
    """Reading a name gives back store, time, number and suffix."""
    assert parse_name(str(name)) == name


def test_the_name_is_the_documented_one() -> None:
    """Scripts rely on how files are called."""
    assert str(BackupName("sqlite", NOW, 0, ".db")) == "sqlite-20261121T150102Z.db"


@pytest.mark.parametrize(
    "name",
    [".sqlite-20261121T150102Z.db.1234.part", "gateway.db", "sqlite-20261321T150102Z.db", "sqlite-20261121T150102Z",
     "SQLITE-20261121T150102Z.db", "sqlite-20261121T150102Z_0.db", "a/b-20261121T150102Z.db", ""],
)  # fmt: skip
def test_what_is_no_backup_is_not_taken_for_one(name: str) -> None:
    """Drafts, stores and other files in the directory are never listed, and so never removed."""
    assert parse_name(name) is None
    assert surplus([name], BackupName("sqlite", NOW, 0, ".db"), 1) == []


@given(st.lists(NAMES, max_size=15), st.integers(1, 5))
def test_the_newest_stay(names: list[BackupName], keep: int) -> None:
    """So many stay, the one just made and the newest of the others; other stores and other ends are left alone."""
    files = {str(name) for name in names}
    for made in names:
        gone = surplus(files, made, keep)
        mine = listed(files, made.store, made.suffix)
        stay = [one for one in mine if one not in gone]
        assert made in stay
        assert len(stay) == min(keep, len(mine))
        assert set(gone) <= set(mine)
        others = [one for one in stay if one != made]
        assert all((old.at, old.number) <= (new.at, new.number) for old in gone for new in others)


@given(st.lists(NAMES, max_size=15), MOMENTS)
def test_the_newest_is_none_of_the_future(names: list[BackupName], now: datetime) -> None:
    """What a wrong clock has named would put off the next backup for years."""
    files = [str(name) for name in names]
    for store in {name.store for name in names}:
        past = [one for one in listed(files, store) if one.at <= now + timedelta(minutes=5)]
        assert newest(files, store, now) == max(past, default=None)
    assert newest([], "sqlite", now) is None


def test_copies_that_somebody_encrypted_are_listed_and_not_counted() -> None:
    """They are backups to a person, and none that the gateway made and may remove."""
    names = ["sqlite-20260101T000000Z.db", "sqlite-20260102T000000Z.db.gpg"]
    assert len(listed(names)) == 2
    assert [str(one) for one in listed(names, "sqlite", ".db")] == names[:1]
    assert newest(names, "sqlite", NOW, ".db") == listed(names)[0]


def test_two_backups_of_one_second_have_two_names() -> None:
    """The second one is numbered, and counts as the newer."""
    names: list[str] = []
    for _ in range(12):
        names.append(str(free_name(names, "sqlite", ".db", NOW)))
    assert len(set(names)) == 12
    assert [str(one) for one in listed(names)] == names


def test_the_next_is_due_by_the_newest_file() -> None:
    """A process that is started again does not begin with a backup, and a failure is tried again sooner."""
    hour = timedelta(hours=1)
    assert next_due(None, None, hour) is None
    assert next_due(NOW, None, hour) == NOW + hour
    assert next_due(None, NOW, hour) == NOW + timedelta(minutes=5)
    assert next_due(None, NOW, timedelta(seconds=2)) == NOW + timedelta(seconds=2)
    assert next_due(NOW - 2 * hour, NOW, hour) == NOW + timedelta(minutes=5)


@pytest.mark.parametrize(
    ("text", "span"),
    [("24", timedelta(hours=24)), ("24h", timedelta(hours=24)), ("30m", timedelta(minutes=30)), (" 7D ", timedelta(days=7)),
     ("0.5h", timedelta(minutes=30)), ("1w", timedelta(weeks=1)), ("90s", timedelta(seconds=90))],
)  # fmt: skip
def test_intervals_as_people_write_them(text: str, span: timedelta) -> None:
    """A bare number means hours."""
    assert parse_interval(text) == span


@pytest.mark.parametrize(
    "text", ["", "h", "0", "-1h", "1y", "inf", "nan", "24 hours", "0.1s", "9999d", "1e9"]
)
def test_other_intervals_are_refused(text: str) -> None:
    """With a sentence that shows how to write one."""
    with pytest.raises(ConfigurationError, match=r"interval"):
        parse_interval(text)


def test_nothing_of_a_backup_may_be_lost() -> None:
    """A damaged backup, and one with rows of unknown kinds, are not restored."""
    sound = BackupReport(Path("x"), NOW, 1, {"trades": 1, "gone": 0})
    refuse_unrestorable(sound, BUILTIN_KINDS)
    with pytest.raises(StoreCorruptError, match="a row"):
        refuse_unrestorable(BackupReport(Path("x"), NOW, 1, {}, ("a row",)), BUILTIN_KINDS)
    with pytest.raises(SchemaError, match="shipments"):
        refuse_unrestorable(BackupReport(Path("x"), NOW, 1, {"shipments": 1}), BUILTIN_KINDS)
    with pytest.raises(SchemaError, match="parcels"):
        refuse_unrestorable(BackupReport(Path("x"), NOW, 1, {}, (), ("parcels",)), BUILTIN_KINDS)


@given(MOMENTS)
def test_rows_expire_by_whole_days(now: datetime) -> None:
    """Two stores that are looked after on one day lose the same rows, and none before its time."""
    for kind, before in expiring(BUILTIN_KINDS, now):
        assert kind.retention is not None
        assert before == expired_before(kind, now.replace(hour=0, minute=0, second=0))
        assert timedelta(0) <= (now - kind.retention) - before < timedelta(days=1)
    assert {kind.name for kind, _ in expiring(BUILTIN_KINDS, now)} == {
        kind.name for kind in BUILTIN_KINDS if kind.retention is not None
    }
