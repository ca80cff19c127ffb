"""`gateway divergences`: what a bot's shadow reads found."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from typing import Any

import pytest

from gateway import Gateway

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


def test_clear_forgets_them(diverged: Any) -> None:
    """After a repair the list can be emptied."""
    assert diverged.run(*BOTH, "divergences", "clear", "--json").json == {"cleared": 1}
    assert diverged.run(*BOTH, "divergences", "--json").json["divergences"] == []
