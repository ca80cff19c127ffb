"""`STORAGE_PLACES` on the command line: kinds that live in one store are no part of a migration."""

from __future__ import annotations

from typing import Any

import pytest

BOTH = ("--backends", "json,sqlite")
PLACED = {"STORAGE_PLACES": "trades:json,alerts:json+sqlite"}


def test_what_lives_in_one_store_is_neither_copied_nor_missed(workplace: Any) -> None:
    """Copying and verifying everything leaves it out and says so; the stores agree all the same."""
    workplace.fill("json", trades=5, positions=3)
    copied = workplace.run(*BOTH, "copy", "--json", env=PLACED).json
    assert {one["kind"] for one in copied["kinds"]} >= {"positions", "alerts"}
    assert "trades" not in {one["kind"] for one in copied["kinds"]}
    assert copied["left_out"] == [
        "trades: lives in json alone, by STORAGE_PLACES; left out unless it is named"
    ]
    verified = workplace.run(*BOTH, "verify", env=PLACED)
    assert verified.code == 0
    assert "trades: lives in json alone" in verified.out
    assert "json and sqlite agree" in verified.out
    named = workplace.run(*BOTH, "verify", "--kind", "trades", "--json", env=PLACED)
    assert (named.code, named.json["kinds"][0]["differing"]) == (1, 5)


def test_a_step_for_all_kinds_moves_the_others(workplace: Any) -> None:
    """Kinds that are placed stay where they are, before and after, and say who keeps them there."""
    step = workplace.run(
        *BOTH, "phase", "set", "shadow_read", "--why", "soak", "--wait", "0", "--json", env=PLACED
    )
    assert step.code == 0, step
    shown = workplace.run(*BOTH, "phase", "show", "--json", env=PLACED).json
    standing = {one["kind"]: (one["phase"], one["source"]) for one in shown["phases"]}
    assert standing["positions"] == ("shadow_read", "control store")
    assert standing["trades"] == ("legacy", "STORAGE_PLACES")
    assert standing["alerts"] == ("dual_write", "STORAGE_PLACES")
    config = workplace.run(*BOTH, "config", "--json", env=PLACED).json
    decided = {one["kind"]: one["decided_by"] for one in config["phases"]}
    assert (decided["trades"], "soak" in decided["positions"]) == ("STORAGE_PLACES", True)


@pytest.mark.parametrize("kind", ["trades", "alerts"])
def test_a_placed_kind_has_no_phase_to_set(workplace: Any, kind: str) -> None:
    """The refusal names the variable, and nothing is decided."""
    step = workplace.run(*BOTH, "phase", "set", "cutover", "--kind", kind, "--why", "x", env=PLACED)
    assert step.code != 0
    assert f"STORAGE_PLACES says where {kind} lives" in step.err
    assert workplace.run(*BOTH, "phase", "show", "--json", env=PLACED).json["epoch"] == 0


def test_a_decision_of_before_does_not_move_a_placed_kind(workplace: Any) -> None:
    """What was decided about one kind counts for nothing once STORAGE_PLACES names it."""
    assert workplace.run(
        *BOTH, "phase", "set", "shadow_read", "--kind", "trades", "--why", "x", "--wait", "0"
    ).code in (0, 1)
    shown = workplace.run(*BOTH, "phase", "show", "--json", env=PLACED).json
    standing = {one["kind"]: (one["phase"], one["source"]) for one in shown["phases"]}
    assert standing["trades"] == ("legacy", "STORAGE_PLACES")
