"""`gateway copy` and `gateway verify`, end to end from JSON files to SQLite, and from SQLite to PostgreSQL."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

import pytest

from tests.legacy import legacy_positions
from tests.servers import Database

BOTH = ("--backends", "json,sqlite")


def _moved(workplace: Any) -> None:
    workplace.fill("json", trades=50, positions=5)
    assert workplace.run(*BOTH, "copy").code == 0


def test_copy_brings_everything_and_verify_proves_it(workplace: Any) -> None:
    """After a copy the stores agree by digests, row for row."""
    workplace.fill("json", trades=50, positions=5)
    done = workplace.run(*BOTH, "copy", "--json")
    copied = {one["kind"]: one for one in done.json["kinds"]}
    assert (done.json["from"], done.json["to"], done.json["ok"]) == ("json", "sqlite", True)
    assert (copied["trades"]["rows"], copied["trades"]["written"], copied["positions"]["written"]) == (
        50,
        50,
        5,
    )
    verified = workplace.run(*BOTH, "verify", "--deep", "--json")
    assert verified.code == 0
    kinds = {one["kind"]: one for one in verified.json["kinds"]}
    assert kinds["trades"]["rows"] == {"json": 50, "sqlite": 50}
    assert all(one["digests_equal"] for one in kinds.values())
    shown = workplace.run(*BOTH, "verify")
    assert "json and sqlite agree" in shown.out


def test_copying_twice_changes_nothing(workplace: Any) -> None:
    """The second copy leaves the target as it was."""
    _moved(workplace)
    before = workplace.run(*BOTH, "export", "trades", "--store", "sqlite").out
    assert workplace.run(*BOTH, "copy").code == 0
    assert workplace.run(*BOTH, "export", "trades", "--store", "sqlite").out == before


def test_a_dry_run_says_what_would_be_copied_and_writes_nothing(workplace: Any) -> None:
    """Rows that the target lacks are counted, and still lacking afterwards."""
    workplace.fill("json", trades=6, positions=0)
    workplace.fill("sqlite", trades=2, positions=0)
    done = workplace.run(*BOTH, "copy", "--dry-run", "--kind", "trades", "--json")
    assert done.json["dry_run"] is True
    assert done.json["kinds"][0]["rows"] == 6
    assert len(workplace.run("--backends", "sqlite", "export", "trades").out.splitlines()) == 2


def test_one_kind_is_copied_with_its_companions(workplace: Any) -> None:
    """--kind takes along the kinds that move with it, and nothing else."""
    workplace.fill("json")
    done = workplace.run(*BOTH, "copy", "--kind", "positions", "--json")
    assert [one["kind"] for one in done.json["kinds"]] == ["positions", "closed_positions"]
    assert workplace.run("--backends", "sqlite", "export", "trades").out == ""


def test_copy_goes_the_other_way_on_request(workplace: Any) -> None:
    """--from and --to turn the direction; one of them is enough."""
    workplace.fill("sqlite", trades=3)
    workplace.fill("json", trades=0, positions=0)
    done = workplace.run(*BOTH, "copy", "--from", "sqlite", "--json")
    assert (done.json["from"], done.json["to"]) == ("sqlite", "json")
    assert workplace.run(*BOTH, "verify").code == 0
    again = workplace.run(*BOTH, "copy", "--to", "json", "--json")
    assert again.json["from"] == "sqlite"


def test_damaged_rows_are_named_and_not_copied(workplace: Any) -> None:
    """A row that does not give its digest stays behind, is named, and the exit code says so."""
    workplace.fill("json", trades=0, positions=3)
    file = workplace.path / "storage" / "json" / "positions" / "m1.json"
    file.write_text(file.read_text().replace('"YES"', '"NO"'))
    done = workplace.run(*BOTH, "copy", "--json")
    assert done.code == 1
    positions = next(one for one in done.json["kinds"] if one["kind"] == "positions")
    assert (positions["written"], positions["corrupt"], positions["corrupt_keys"]) == (2, 1, [["m1"]])
    assert "m1 is damaged" in workplace.run(*BOTH, "copy").out


def test_verify_names_each_key_that_differs_and_why(workplace: Any) -> None:
    """Missing, changed and additional rows are named with the store and the reason; the exit code is 1."""
    _moved(workplace)
    connection = sqlite3.connect(workplace.path / "storage" / "gateway.db", isolation_level=None)
    connection.execute("DELETE FROM trades WHERE record_id = 't0003'")
    connection.execute("UPDATE trades SET side = 'NO' WHERE record_id = 't0004'")
    connection.execute("DELETE FROM positions WHERE condition_id = 'm2'")
    connection.close()
    done = workplace.run(*BOTH, "verify", "--deep", "--json")
    assert done.code == 1
    found = {tuple(one["key"]): one for kind in done.json["kinds"] for one in kind["differences"]}
    assert set(found) == {("t0003",), ("t0004",), ("m2",)}
    assert found["t0003",]["reason"] == "missing on sqlite"
    assert "sqlite" in found["t0004",]["reason"]
    shown = workplace.run(*BOTH, "verify", "--deep").out
    assert "trades t0003: missing on sqlite" in shown
    assert "gateway copy" in shown
    assert workplace.run(*BOTH, "copy").code == 0
    assert workplace.run(*BOTH, "verify", "--kind", "positions").code == 0


def test_one_store_can_be_verified_against_its_own_digests(workplace: Any) -> None:
    """With one store, --deep finds a row that was changed behind the gateway's back."""
    workplace.fill("json", trades=3)
    assert workplace.run("--backends", "json", "verify").code == 2
    assert workplace.run("--backends", "json", "verify", "--deep").code == 0
    file = workplace.path / "storage" / "json" / "positions" / "m1.json"
    file.write_text(file.read_text().replace('"YES"', '"NO"'))
    done = workplace.run("--backends", "json", "verify", "--deep", "--json")
    assert done.code == 1
    assert [one["key"] for kind in done.json["kinds"] for one in kind["differences"]] == [["m1"]]


def test_wrong_ends_are_refused(workplace: Any) -> None:
    """One store, equal ends and unknown ends each get a sentence and exit code 2."""
    workplace.fill("json,sqlite", trades=1)
    for arguments, sentence in (
        (("--backends", "json", "copy"), "needs two stores"),
        ((*BOTH, "copy", "--from", "json", "--to", "json"), "both name 'json'"),
        ((*BOTH, "copy", "--from", "oracle"), "no store 'oracle'"),
        ((*BOTH, "copy", "--kind", "orders"), "no record kind 'orders'"),
        ((*BOTH, "verify", "--kind", "orders"), "no record kind 'orders'"),
    ):
        done = workplace.run(*arguments)
        assert done.code == 2, arguments
        assert sentence in done.err


def test_a_copy_into_a_store_that_a_bot_owns_is_refused(workplace: Any) -> None:
    """JSON files take one writer: copying into them while a bot holds them is refused, and nothing is written."""
    from gateway import SyncGateway

    workplace.fill("sqlite", trades=1, positions=0)
    with SyncGateway("json", environ={}, env_file=None, data_dir=workplace.path / "storage"):
        done = workplace.run(*BOTH, "copy", "--to", "json", "--json")
    assert done.code == 3
    assert done.error["type"] == "StoreLockedError"
    assert "stop the bot for the time; or let the bot write the key again" in done.error["message"]


def test_copy_goes_from_the_store_that_leads_to_the_one_that_follows(workplace: Any) -> None:
    """After a cutover the mirror gets what it lacks, without anybody saying the direction; each kind its own way."""
    workplace.fill("sqlite", trades=4, positions=2)
    workplace.fill("json", trades=0, positions=0)
    cutover = {"STORAGE_PHASE": "cutover"}
    differ = workplace.run(*BOTH, "verify", env=cutover).out
    assert "gateway copy --from sqlite --to json" in differ
    assert "stop the bot" in differ
    rehearsed = workplace.run(*BOTH, "copy", "--dry-run", env=cutover).out
    assert "gateway copy --from sqlite --to json --kind" in rehearsed
    done = workplace.run(*BOTH, "copy", "--json", env=cutover)
    assert (done.code, done.json["from"], done.json["to"]) == (0, "sqlite", "json")
    assert workplace.run(*BOTH, "verify", env=cutover).code == 0


def test_kinds_in_different_phases_are_copied_in_different_directions(workplace: Any) -> None:
    """What leads is asked for each kind, so that one copy serves a migration that is half done."""
    workplace.fill("sqlite", trades=4, positions=0)
    workplace.fill("json", trades=0, positions=2)
    half = {"STORAGE_PHASE": "dual_write", "STORAGE_CUTOVER": "trades"}
    kinds = {one["kind"]: one for one in workplace.run(*BOTH, "verify", "--json", env=half).json["kinds"]}
    assert (kinds["trades"]["leader"], kinds["positions"]["leader"]) == ("sqlite", "json")
    advice = workplace.run(*BOTH, "verify", env=half).out
    assert "gateway copy --from sqlite --to json --kind trades " in advice
    assert "gateway copy --from json --to sqlite --kind positions " in advice
    done = workplace.run(*BOTH, "copy", "--json", env=half)
    ways = {one["kind"]: (one["from"], one["to"], one["written"]) for one in done.json["kinds"]}
    assert ways["trades"] == ("sqlite", "json", 4)
    assert ways["positions"] == ("json", "sqlite", 2)
    assert (done.json["from"], done.json["to"]) == (None, None)
    assert workplace.run(*BOTH, "verify", env=half).code == 0


def test_where_a_share_is_cut_over_both_directions_are_advised(workplace: Any) -> None:
    """Each store leads some of the keys, so what is missing on either has to be brought over."""
    workplace.fill("json", trades=0, positions=2)
    workplace.fill("sqlite", trades=0, positions=0)
    advice = workplace.run(*BOTH, "verify", env={"STORAGE_CUTOVER": "positions:25%"}).out
    assert "gateway copy --from json --to sqlite --kind positions " in advice
    assert "gateway copy --from sqlite --to json --kind positions " in advice


UP: Final = ("--backends", "sqlite,postgres")
"""From a file to a server."""


def test_sqlite_is_copied_to_a_server_and_back(server_workplace: Any) -> None:
    """What is copied to PostgreSQL agrees row for row, and copied back into an empty file it is what it was."""
    server_workplace.fill("sqlite", trades=50, positions=5)
    before = server_workplace.run("--backends", "sqlite", "export", "trades").out
    done = server_workplace.run(*UP, "copy", "--json")
    copied = {one["kind"]: one for one in done.json["kinds"]}
    assert (done.code, done.json["from"], done.json["to"]) == (0, "sqlite", "postgres")
    assert (copied["trades"]["written"], copied["positions"]["written"]) == (50, 5)
    verified = server_workplace.run(*UP, "verify", "--deep", "--json")
    kinds = {one["kind"]: one for one in verified.json["kinds"]}
    assert verified.code == 0
    assert kinds["trades"]["rows"] == {"sqlite": 50, "postgres": 50}
    assert all(one["digests_equal"] for one in kinds.values())
    assert server_workplace.run("--backends", "postgres", "export", "trades").out == before
    (server_workplace.path / "storage").rename(server_workplace.path / "elsewhere")
    back = server_workplace.run(*UP, "copy", "--from", "postgres", "--json")
    assert (back.code, back.json["to"]) == (0, "sqlite")
    assert server_workplace.run(*UP, "verify", "--deep").code == 0
    assert server_workplace.run("--backends", "sqlite", "export", "trades").out == before


def test_a_row_changed_in_the_server_is_named(server_workplace: Any, prepared_database: Database) -> None:
    """Rows that an administrator removed or changed behind the gateway's back are named, and copying mends them."""
    server_workplace.fill("sqlite", trades=20, positions=3)
    assert server_workplace.run(*UP, "copy").code == 0
    prepared_database.execute(
        "DELETE FROM bots_core.trades WHERE record_id = 't0003'",
        "UPDATE bots_core.trades SET side = 'NO' WHERE record_id = 't0004'",
        "UPDATE bots_core.positions SET entry_price = 0.50 WHERE condition_id = 'm1'",
        """UPDATE bots_core.positions SET extra = '{"note": "changed"}' WHERE condition_id = 'm2'""",
    )
    done = server_workplace.run(*UP, "verify", "--deep", "--json")
    assert done.code == 1
    found = {tuple(one["key"]): one["reason"] for kind in done.json["kinds"] for one in kind["differences"]}
    assert found["t0003",] == "missing on postgres"
    assert "postgres" in found["t0004",]
    assert set(found) >= {("t0003",), ("t0004",), ("m2",)}
    assert server_workplace.run(*UP, "verify", "--deep", "--store", "sqlite", "--json").code in {0, 2}


@pytest.mark.shared_data
def test_the_real_history_arrives_on_a_server(server_workplace: Any) -> None:
    """Positions of a bot that ran for months go through import, copy and verify into PostgreSQL unchanged."""
    source = legacy_positions()
    imported = server_workplace.run("--backends", "sqlite", "import", "positions", source, "--json").json
    assert imported["imported"] > 100
    assert server_workplace.run(*UP, "copy").code == 0
    verified = server_workplace.run(*UP, "verify", "--deep", "--json")
    assert verified.code == 0
    kinds = {one["kind"]: one for one in verified.json["kinds"]}
    assert (
        kinds["positions"]["rows"]["sqlite"] == kinds["positions"]["rows"]["postgres"] >= imported["imported"]
    )
    for kind in ("positions", "closed_positions"):
        there = server_workplace.run("--backends", "postgres", "export", kind).out
        assert there == server_workplace.run("--backends", "sqlite", "export", kind).out
