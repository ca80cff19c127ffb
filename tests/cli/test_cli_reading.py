"""`gateway get`, `gateway query`, `gateway stats` and `gateway health`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

LOOKING = (
    ("stats",),
    ("health",),
    ("doctor",),
    ("query", "trades"),
    ("get", "positions", "m1"),
    ("verify",),
    ("copy", "--dry-run"),
    ("phase", "show"),
    ("divergences",),
    ("config",),
    ("schema", "check"),
)


def _tree(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()
    }


def test_get_shows_a_record_with_its_version_and_digest(workplace: Any) -> None:
    """A record is found by its key and shown as it was written."""
    workplace.fill("json")
    found = workplace.run("--backends", "json", "get", "positions", "m1", "--json").json
    assert found["found"] is True
    assert found["store"] == "json"
    assert found["record"]["extra"] == {"note": "строка", "none": None}
    assert found["intact"] is True
    assert found["version"] > 0
    assert "строка" in workplace.run("--backends", "json", "get", "positions", "m1").out


def test_get_of_nothing_is_exit_code_1_and_not_an_error(workplace: Any) -> None:
    """Nothing under a key differs from a store that is down."""
    workplace.fill("json")
    done = workplace.run("--backends", "json", "get", "positions", "nobody", "--json")
    assert done.code == 1
    assert done.json == {
        "kind": "positions",
        "store": "json",
        "found": False,
        "record": None,
        "deleted_at": None,
    }
    assert done.err == ""
    assert (
        "holds nothing under nobody" in workplace.run("--backends", "json", "get", "positions", "nobody").err
    )


def test_get_of_a_deleted_record_says_when_it_was_deleted(workplace: Any) -> None:
    """A deletion is told from a key that never was."""
    import asyncio

    from gateway import Gateway

    async def delete() -> bool:
        async with Gateway("json", environ={}, env_file=None, data_dir=workplace.path / "storage") as gateway:
            return await gateway.delete("positions", "m1")

    workplace.fill("json")
    assert asyncio.run(delete())
    done = workplace.run("--backends", "json", "get", "positions", "m1", "--json")
    assert done.code == 1
    assert done.json["deleted_at"].endswith("Z")


def test_query_filters_orders_and_pages(workplace: Any) -> None:
    """Pages follow one another without gaps, under a filter, and the last one has no cursor."""
    workplace.fill("json", trades=10)
    seen, cursor = [], None
    for _ in range(10):
        more = () if cursor is None else ("--after", cursor)
        page = workplace.run(
            "--backends",
            "json",
            "query",
            "trades",
            "--where",
            "market_name=BTC",
            "--limit",
            "2",
            "--json",
            *more,
        ).json
        seen += [one["record_id"] for one in page["records"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert seen == ["t0000", "t0002", "t0004", "t0006", "t0008"]


def test_query_takes_time_bounds_and_order(workplace: Any) -> None:
    """Since is inclusive, until exclusive, desc begins with the newest."""
    workplace.fill("json", trades=5)
    bounds = ("--since", "2026-01-01T12:01:00Z", "--until", "2026-01-01T13:04:00+01:00", "--order", "desc")
    found = workplace.run(
        "--backends", "json", "query", "trades", *bounds, "--fields", "record_id", "--json"
    ).json
    assert found["records"] == [{"record_id": "t0003"}, {"record_id": "t0002"}, {"record_id": "t0001"}]


def test_query_compares_money_by_value(workplace: Any) -> None:
    """10.25 is more than 9, though its text is less."""
    workplace.fill("json", trades=11)
    found = workplace.run("--backends", "json", "query", "trades", "--where", "price__ge=9", "--json").json
    assert [one["price"] for one in found["records"]] == ["9.25", "10.25"]


def test_the_table_leaves_out_empty_columns_unless_asked(workplace: Any) -> None:
    """Columns without a value are noise; --fields shows them all the same."""
    workplace.fill("json")
    assert "order_id" not in workplace.run("--backends", "json", "query", "trades").out
    assert (
        "order_id"
        in workplace.run("--backends", "json", "query", "trades", "--fields", "record_id,order_id").out
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("trades", "--since", "2026-01-01T12:00:00"), "has no time zone"),
        (("trades", "--where", "nothing=1"), "no field 'nothing'"),
        (("trades", "--where", "price__like=1"), "unknown operator"),
        (("trades", "--order", "random"), "asc or desc"),
        (("trades", "--after", "rubbish"), "no cursor"),
        (("trades", "--store", "oracle"), "no store 'oracle'"),
        (("bot_state", "--since", "2026-01-01"), "no time field"),
        (("orders",), "no record kind 'orders'"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(
    workplace: Any, arguments: tuple[str, ...], sentence: str
) -> None:
    """Each wrong input is refused by naming what is wrong with it."""
    workplace.fill("json")
    done = workplace.run("--backends", "json", "query", *arguments)
    assert done.code == 2
    assert sentence in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_reads_ask_the_store_that_bots_read_and_another_one_on_request(workplace: Any) -> None:
    """In dual_write the old store answers; --store asks the other, even for what only it holds."""
    workplace.fill("json")
    workplace.fill("sqlite", trades=1)
    both = ("--backends", "json,sqlite")
    old = workplace.run(*both, "query", "trades", "--json").json
    new = workplace.run(*both, "query", "trades", "--store", "sqlite", "--json").json
    assert (old["store"], len(old["records"])) == ("json", 5)
    assert (new["store"], len(new["records"])) == ("sqlite", 1)


def test_stats_counts_rows_with_first_and_last_time_and_size(workplace: Any) -> None:
    """Each kind in each store shows how many rows there are and since when."""
    workplace.fill("json,sqlite", trades=4)
    found = workplace.run("--backends", "json,sqlite", "stats", "--json").json
    trades = [one for one in found["kinds"] if one["kind"] == "trades"]
    assert [(one["store"], one["rows"]) for one in trades] == [("json", 4), ("sqlite", 4)]
    assert {one["first"] for one in trades} == {"2026-01-01T12:00:00.000000Z"}
    assert {one["last"] for one in trades} == {"2026-01-01T12:03:00.000000Z"}
    assert all(one["bytes"] > 0 for one in found["stores"])
    shown = workplace.run("--backends", "json,sqlite", "stats").out
    assert "empty: " in shown
    assert "trades" in shown


def test_stats_shows_the_store_that_is_up_and_names_the_one_that_is_down(workplace: Any) -> None:
    """One store out of reach does not hide the other, and is no empty store."""
    workplace.fill("json")
    done = workplace.run("--backends", "json,sqlite", "stats", "--json")
    assert done.code == 3
    assert {one["store"] for one in done.json["kinds"]} == {"json"}
    assert done.error["exit_code"] == 3
    assert "sqlite" in done.error["message"]


def test_reading_changes_nothing_on_disk(workplace: Any) -> None:
    """Every command that only looks leaves each file as it was, and makes none that stays."""
    workplace.fill("json,sqlite")
    before = _tree(workplace.path)
    both = ("--backends", "json,sqlite")
    for command in LOOKING:
        assert workplace.run(*both, *command).code == 0, command
    after = _tree(workplace.path)
    shared = {name for name in after if name.endswith("-shm") or (name.endswith("-wal") and not after[name])}
    assert {name: data for name, data in after.items() if name not in shared} == before


def test_reading_beside_nothing_creates_nothing(workplace: Any) -> None:
    """Looking for stores that are not there does not make them."""
    for command in (
        ("stats",),
        ("query", "trades"),
        ("health",),
        ("doctor",),
        ("phase", "show"),
        ("divergences",),
        ("divergences", "clear"),
    ):
        workplace.run("--backends", "json,sqlite", *command)
    assert list(workplace.path.iterdir()) == []


def test_health_is_exit_code_3_when_a_store_does_not_answer(workplace: Any) -> None:
    """Health tells which store answers."""
    workplace.fill("json")
    up = workplace.run("--backends", "json", "health", "--json")
    assert up.code == 0
    assert up.json["stores"][0]["ok"] is True
    down = workplace.run("--backends", "json,sqlite", "health", "--json")
    assert down.code == 3
    assert [one["ok"] for one in down.json["stores"]] == [True, False]


def test_a_changed_row_is_shown_with_a_warning(workplace: Any) -> None:
    """A row that was edited by hand is served, and said not to give its digest."""
    workplace.fill("json")
    file = workplace.path / "storage" / "json" / "positions" / "m1.json"
    file.write_text(file.read_text().replace('"YES"', '"NO"'))
    found = workplace.run("--backends", "json", "get", "positions", "m1", "--json").json
    assert found["record"]["side"] == "NO"
    assert found["intact"] is False
    assert "changed outside the gateway" in workplace.run("--backends", "json", "get", "positions", "m1").out
