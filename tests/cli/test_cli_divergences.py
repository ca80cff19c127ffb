"""`gateway divergences`: what a bot's shadow reads found."""

from __future__ import annotations

import asyncio
import csv
import json
import sqlite3
from typing import Any

import pytest

from gateway import Gateway
from gateway.compare import REDACTED, FieldDifference, Outcome, Reason, RowComparison
from gateway.divergences.divergence import divergence_of
from gateway.divergences.store import DivergenceStore
from gateway.migration.control_file import ControlFile
from gateway.records import POSITIONS
from gateway.records.stamp import DEFAULT_TENANT

BOTH = ("--backends", "json,sqlite")


@pytest.fixture
def diverged(workplace: Any) -> Any:
    """Give a workplace in which a bot found one position to differ between its stores."""
    workplace.fill("json,sqlite", trades=0, positions=2)
    connection = sqlite3.connect(workplace.path / "storage" / "gateway.db", isolation_level=None)
    connection.execute("UPDATE positions SET side = 'NO' WHERE condition_id = 'm1'")
    connection.close()
    asyncio.run(_read(workplace))
    return workplace


async def _read(workplace: Any) -> None:
    """Read with every read repeated on the shadow; closing the gateway waits for the comparisons."""
    settings = {"phase": "shadow_read", "shadow_sample": 1.0, "data_dir": workplace.path / "storage"}
    async with Gateway("json,sqlite", environ={}, env_file=None, **settings) as gateway:
        for name in ("m0", "m1"):
            assert await gateway.load_position(name) is not None


def test_a_divergence_is_listed_with_the_fields_and_the_stores(diverged: Any) -> None:
    """Another process sees what the bot found."""
    found = diverged.run(*BOTH, "divergences", "--json").json
    assert found["dropped"] == 0
    (one,) = found["divergences"]
    assert (one["kind"], one["key"], one["primary"], one["shadow"]) == ("positions", ["m1"], "json", "sqlite")
    assert one["differences"] == [{"field": "side", "json": "YES", "sqlite": "NO"}]
    listed = diverged.run(*BOTH, "divergences", "list", "--kind", "positions").out
    assert "m1" in listed
    assert "side" in listed


def test_a_kind_without_divergences_lists_nothing(diverged: Any) -> None:
    """--kind narrows the list, and an unknown kind is refused."""
    assert diverged.run(*BOTH, "divergences", "--kind", "trades", "--json").json["divergences"] == []
    assert diverged.run(*BOTH, "divergences", "--kind", "orders").code == 2


def test_one_is_shown_by_the_beginning_of_its_id(diverged: Any) -> None:
    """The id in the list is enough to see both values."""
    (one,) = diverged.run(*BOTH, "divergences", "--json").json["divergences"]
    shown = diverged.run(*BOTH, "divergences", "show", one["id"][:12])
    assert shown.code == 0
    assert "YES" in shown.out
    assert "NO" in shown.out
    assert diverged.run(*BOTH, "divergences", "show", one["id"], "--json").json["found"] is True
    assert diverged.run(*BOTH, "divergences", "show", "ffffffffffffffffffffff", "--json").code == 1


def test_they_are_exported_as_json_lines(diverged: Any) -> None:
    """Export writes each on a line, to a file or the standard output."""
    lines = diverged.run(*BOTH, "divergences", "export").out.splitlines()
    assert [json.loads(line)["key"] for line in lines] == [["m1"]]
    diverged.run(*BOTH, "divergences", "export", "--output", "found.jsonl")
    assert (diverged.path / "found.jsonl").read_text().splitlines() == lines


def test_options_before_the_command_count_too(diverged: Any) -> None:
    """--kind and --json mean the same before and after `list`; what a command does not have is refused there."""
    assert diverged.run(*BOTH, "divergences", "--kind", "trades", "--json", "list").json["divergences"] == []
    found = diverged.run(*BOTH, "divergences", "--kind", "positions", "list", "--json").json["divergences"]
    assert [one["key"] for one in found] == [["m1"]]
    before = diverged.run(*BOTH, "divergences", "--kind", "trades", "list", "--kind", "positions", "--json")
    assert len(before.json["divergences"]) == 1
    assert diverged.run(*BOTH, "divergences", "--kind", "trades", "export").out == ""
    refused = diverged.run(*BOTH, "divergences", "--limit", "3", "clear")
    assert refused.code == 2
    assert "--limit" in refused.err
    assert len(diverged.run(*BOTH, "divergences", "--json").json["divergences"]) == 1


def test_one_is_resolved_with_who_and_why_and_is_open_again_when_it_is_found_again(diverged: Any) -> None:
    """A resolved divergence leaves the list, is shown with its reason, and comes back if the difference is still there."""
    (one,) = diverged.run(*BOTH, "divergences", "--json").json["divergences"]
    resolve = ("divergences", "resolve", one["id"][:12], "--why", "copied by hand", "--who", "ana", "--json")
    assert diverged.run(*BOTH, *resolve).json == {"resolved": 1, "missing": []}
    found = diverged.run(*BOTH, "divergences", "--json").json
    assert (found["divergences"], found["open"], found["resolved"]) == ([], 0, 1)
    (kept,) = diverged.run(*BOTH, "divergences", "list", "--state", "resolved", "--json").json["divergences"]
    assert (kept["state"], kept["resolution"]["who"], kept["resolution"]["why"]) == (
        "resolved",
        "ana",
        "copied by hand",
    )
    assert "copied by hand" in diverged.run(*BOTH, "divergences", "show", one["id"]).out
    asyncio.run(_read(diverged))
    (again,) = diverged.run(*BOTH, "divergences", "--json").json["divergences"]
    assert (again["state"], again["reopened"], again["count"]) == ("open", 1, 2)
    assert "found again" in diverged.run(*BOTH, "divergences", "show", one["id"]).out


def test_resolving_asks_for_a_reason_and_for_what(diverged: Any) -> None:
    """Ids or --all, and never without a reason; an id that is not there is a problem and named."""
    assert diverged.run(*BOTH, "divergences", "resolve", "--all").code == 2
    assert diverged.run(*BOTH, "divergences", "resolve", "--why", "x").code == 2
    assert diverged.run(*BOTH, "divergences", "resolve", "abc", "--all", "--why", "x").code == 2
    assert diverged.run(*BOTH, "divergences", "resolve", "--all", "--why", " ").code == 2
    missing = diverged.run(*BOTH, "divergences", "resolve", "ffffffffffffffff", "--why", "x", "--json")
    assert (missing.code, missing.json) == (1, {"resolved": 0, "missing": ["ffffffffffffffff"]})
    other = diverged.run(*BOTH, "divergences", "resolve", "--all", "--kind", "trades", "--why", "x", "--json")
    assert other.json["resolved"] == 0
    everything = diverged.run(*BOTH, "divergences", "resolve", "--all", "--why", "x", "--json")
    assert everything.json["resolved"] == 1


def test_they_are_exported_as_a_table(diverged: Any) -> None:
    """CSV has a line for each field that differs, with both values and versions."""
    (line,) = csv.DictReader(diverged.run(*BOTH, "divergences", "export", "--format", "csv").out.splitlines())
    assert (line["kind"], line["key"], line["field"]) == ("positions", "m1", "side")
    assert (line["primary"], line["shadow"], line["primary_value"], line["shadow_value"]) == (
        "json",
        "sqlite",
        "YES",
        "NO",
    )
    assert line["primary_version"] == line["shadow_version"]
    assert diverged.run(*BOTH, "divergences", "export", "--format", "xml").code == 2
    assert diverged.run(*BOTH, "divergences", "export", "--state", "resolved").out == ""


def test_values_are_shown_as_people_read_them(workplace: Any) -> None:
    """Times are times and documents are documents, in the list, the export and the comparison of fields."""
    workplace.fill("json,sqlite", trades=0, positions=2)
    connection = sqlite3.connect(workplace.path / "storage" / "gateway.db", isolation_level=None)
    connection.execute(
        "UPDATE positions SET opened_at = opened_at + 3600000000, extra = '{}' WHERE condition_id = 'm1'"
    )
    connection.close()
    asyncio.run(_read(workplace))
    (one,) = workplace.run(*BOTH, "divergences", "--json").json["divergences"]
    values = {part["field"]: (part["json"], part["sqlite"]) for part in one["differences"]}
    assert values["opened_at"] == ("2026-01-01T12:00:00.000000Z", "2026-01-01T13:00:00.000000Z")
    assert values["extra"] == ({"note": "строка", "none": None}, {})
    shown = workplace.run(*BOTH, "divergences", "show", one["id"]).out
    assert "2026-01-01T13:00:00.000000Z" in shown
    assert "character 13" in shown


def test_where_values_part_is_counted_from_their_beginning(workplace: Any) -> None:
    """Of long texts a part is kept, and says where it begins; of values that are not shown nothing is made up."""
    differences = (
        FieldDifference("market_name", *(f"[from character 961] {'x' * 40}{end}" for end in "ab")),
        FieldDifference("side", REDACTED, REDACTED),
    )
    found = RowComparison(POSITIONS, ("m1",), Outcome.DIVERGED, Reason.CONTENT, differences, 1, 1)
    one = divergence_of(found, tenant=DEFAULT_TENANT, primary="json", shadow="sqlite")
    workplace.fill("json,sqlite", trades=0, positions=1)
    DivergenceStore(ControlFile(workplace.path / "storage" / "control.db")).save([one])
    shown = workplace.run(*BOTH, "divergences", "show", one.identity).out
    assert "character 1001" in shown
    assert "what is not shown" in shown


def test_stores_and_versions_are_named(diverged: Any) -> None:
    """Nobody has to know which store is on the left, or when a version was written."""
    (one,) = diverged.run(*BOTH, "divergences", "--json").json["divergences"]
    assert one["reason"].startswith("damaged in sqlite: ")
    listed = diverged.run(*BOTH, "divergences").out
    assert "damaged in sqlite " in listed
    shown = diverged.run(*BOTH, "divergences", "show", one["id"]).out
    assert f"sqlite: version {one['versions']['sqlite']}, written 20" in shown


def test_clear_forgets_those_of_a_kind(diverged: Any) -> None:
    """--kind narrows what is forgotten."""
    assert diverged.run(*BOTH, "divergences", "clear", "--kind", "trades", "--json").json == {"cleared": 0}
    assert diverged.run(*BOTH, "divergences", "clear", "--kind", "positions", "--json").json == {"cleared": 1}


def test_clear_forgets_them(diverged: Any) -> None:
    """After a repair the list can be emptied."""
    assert diverged.run(*BOTH, "divergences", "clear", "--json").json == {"cleared": 1}
    assert diverged.run(*BOTH, "divergences", "--json").json["divergences"] == []
