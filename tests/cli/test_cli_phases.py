"""`gateway phase`: decisions, refusals, and running bots that follow."""

from __future__ import annotations

import getpass
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest

from gateway.migration.control import ControlStore, MemberId

BOTH = ("--backends", "json,sqlite")

BOT = """
import asyncio, sys, time
from pathlib import Path
from gateway import Gateway

async def main():
    async with Gateway("json,sqlite", environ={}, env_file=None, data_dir=Path("storage")) as gateway:
        seen, number = -1, 0
        while True:
            if gateway.plan.epoch != seen:
                seen = gateway.plan.epoch
                print(seen, gateway.plan.default.phase.value, time.time(), flush=True)
            await gateway.save_position(
                condition_id="live", side="YES", entry_price=1, opened_at=START, amount=number
            )
            number += 1
            await asyncio.sleep(0.01)

from datetime import datetime, UTC
START = datetime(2026, 1, 1, tzinfo=UTC)
asyncio.run(main())
"""


@contextmanager
def _bot(workplace: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a bot that says which epoch it follows; it is gone at the end, whatever happens."""
    script = workplace.path / "bot.py"
    script.write_text(BOT)
    process = subprocess.Popen(
        [sys.executable, script.name], stdout=subprocess.PIPE, text=True, cwd=workplace.path
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().split()[:2] == ["0", "dual_write"]
        yield process
    finally:
        process.kill()
        process.wait(timeout=10)
        if process.stdout is not None:
            process.stdout.close()


def _set(workplace: Any, *args: str) -> Any:
    return workplace.run(*BOTH, "phase", "set", *args, "--wait", "0", "--force", "--json")


def test_a_step_is_recorded_with_who_why_and_when(workplace: Any) -> None:
    """The decision is shown for every kind, with its author, reason, time and epoch."""
    done = _set(workplace, "shadow_read", "--why", "copy is verified", "--who", "ana")
    assert done.code == 0
    assert done.json["followed"] is True
    shown = workplace.run(*BOTH, "phase", "show", "--history", "5", "--json").json
    assert shown["epoch"] == 1
    for one in shown["phases"]:
        assert (one["phase"], one["who"], one["why"], one["epoch"]) == (
            "shadow_read",
            "ana",
            "copy is verified",
            1,
        )
        assert one["when"].endswith("Z")
    assert [(one["before"], one["after"]) for one in shown["history"]] == [("dual_write", "shadow_read")]
    table = workplace.run(*BOTH, "phase", "show").out
    assert "copy is verified" in table
    assert "no running bot" in table


def test_without_who_it_is_the_user_who_types(workplace: Any) -> None:
    """The author defaults to the user of the process."""
    assert _set(workplace, "shadow_read", "--why", "w").json["changes"][0]["who"] == getpass.getuser()


def test_a_share_of_the_keys_can_be_cut_over(workplace: Any) -> None:
    """--share leads part of a kind's keys ahead of its phase, for the kinds named alone."""
    _set(workplace, "shadow_read", "--why", "w")
    done = _set(workplace, "shadow_read", "--kind", "positions", "--share", "25%", "--why", "a quarter first")
    assert done.json["changes"][0]["after"] == "shadow_read 25%"
    phases = {one["kind"]: one for one in workplace.run(*BOTH, "phase", "show", "--json").json["phases"]}
    assert phases["positions"]["share"] == 25
    assert phases["trades"]["share"] == 0


def test_a_step_for_all_kinds_takes_along_those_decided_one_by_one(workplace: Any) -> None:
    """Without --kind no kind is left behind; if one of them cannot take the step, none does."""
    _set(workplace, "shadow_read", "--kind", "positions", "--why", "w")
    refused = workplace.run(*BOTH, "phase", "set", "legacy", "--why", "w", "--wait", "0")
    assert refused.code == 2
    assert "from shadow_read to legacy skips a phase" in refused.err
    _set(workplace, "shadow_read", "--why", "w")
    _set(workplace, "cutover", "--why", "w")
    phases = workplace.run(*BOTH, "phase", "show", "--json").json["phases"]
    assert {one["phase"] for one in phases} == {"cutover"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("complete", "--why", "w"), "skips a phase; go to shadow_read first"),
        (("sideways", "--why", "w"), "there is no phase 'sideways'"),
        (("shadow_read", "--why", " "), "say why"),
        (("shadow_read", "--why", "w", "--kind", "orders"), "no record kind 'orders'"),
        (("shadow_read", "--why", "w", "--kind", "closed_positions"), "moves along with positions"),
        (("shadow_read", "--why", "w", "--share", "200%"), "between 0% and 100%"),
        (("cutover", "--why", "w", "--kind", "positions", "--kind", "trades"), "positions: from dual_write"),
    ],
)
def test_a_refused_step_is_a_sentence_and_changes_nothing(
    workplace: Any, arguments: tuple[str, ...], sentence: str
) -> None:
    """What is refused ends with exit code 2, and no decision is made."""
    done = workplace.run(*BOTH, "phase", "set", *arguments, "--wait", "0")
    assert done.code == 2
    assert sentence in done.err
    assert workplace.run(*BOTH, "phase", "show", "--json").json["epoch"] == 0


def test_why_is_required(workplace: Any) -> None:
    """A decision without a reason is wrong usage."""
    done = workplace.run(*BOTH, "phase", "set", "shadow_read", "--json")
    assert done.code == 2
    assert "--why" in done.error["message"]


def test_one_store_has_no_phases_to_set(workplace: Any) -> None:
    """With one store there is nothing to migrate, and the message says so."""
    done = workplace.run("--backends", "json", "phase", "set", "dual_write", "--why", "w", "--wait", "0")
    assert done.code == 2
    assert "one store only" in done.err


def test_of_several_kinds_none_moves_if_one_cannot(workplace: Any) -> None:
    """The kinds named together move together or not at all."""
    _set(workplace, "shadow_read", "--kind", "trades", "--why", "w")
    done = _set(workplace, "cutover", "--kind", "trades", "--kind", "positions", "--why", "w")
    assert done.code == 2
    assert "nothing was changed" in done.error["message"]
    assert workplace.run(*BOTH, "phase", "show", "--json").json["epoch"] == 1


def test_a_damaged_control_store_is_one_sentence(workplace: Any) -> None:
    """A control store that cannot be read is refused by name, and not overwritten."""
    _set(workplace, "shadow_read", "--why", "w")
    file = workplace.path / "storage" / "control.db"
    file.write_bytes(b"not a database at all, but long enough to be read as one" * 40)
    before = file.read_bytes()
    for command in (("phase", "show"), ("phase", "set", "cutover", "--why", "w", "--wait", "0")):
        done = workplace.run(*BOTH, *command)
        assert done.code == 2
        assert "control.db" in done.err
    config = workplace.run(*BOTH, "config", "--json")
    assert config.code == 2
    assert "control.db" in config.error["message"]
    assert config.json["phases"] == []
    assert any(one["variable"] == "STORAGE_CONTROL_URL" for one in config.json["settings"])
    assert file.read_bytes() == before


def test_a_running_bot_follows_within_a_second_and_is_listed(workplace: Any) -> None:
    """The bot takes over the very first decision, and the next one, without a restart; `set` waits for it."""
    with _bot(workplace) as bot:
        assert bot.stdout is not None
        for epoch, phase in ((1, "shadow_read"), (2, "cutover"), (3, "shadow_read")):
            done = workplace.run(*BOTH, "phase", "set", phase, "--why", "w", "--wait", "20", "--json")
            assert done.code == 0
            assert done.json["followed"] is True
            assert [(one["pid"], one["epoch"]) for one in done.json["members"]] == [(bot.pid, epoch)]
            seen, where, at = bot.stdout.readline().split()
            assert (int(seen), where) == (epoch, phase)
            decided = datetime.fromisoformat(done.json["changes"][0]["when"]).timestamp()
            assert float(at) - decided < 1.0
        members = workplace.run(*BOTH, "phase", "show", "--json").json["members"]
        assert [(one["pid"], one["follows"]) for one in members] == [(bot.pid, True)]
    assert workplace.run(*BOTH, "phase", "show", "--json").json["members"] == []


def test_a_bot_that_does_not_follow_is_named_and_the_exit_code_says_so(workplace: Any) -> None:
    """A stopped bot is reported as behind; once it runs again it follows."""
    with _bot(workplace) as bot:
        assert bot.stdout is not None
        assert workplace.run(*BOTH, "phase", "set", "shadow_read", "--why", "w", "--wait", "20").code == 0
        bot.stdout.readline()
        os.kill(bot.pid, signal.SIGSTOP)
        # A step that verifies nothing: the bot may have been stopped between the two stores.
        done = workplace.run(*BOTH, "phase", "set", "dual_write", "--why", "w", "--wait", "0.2", "--json")
        assert done.code == 1
        assert done.json["followed"] is False
        assert [(one["pid"], one["follows"]) for one in done.json["members"]] == [(bot.pid, False)]
        os.kill(bot.pid, signal.SIGCONT)
        assert bot.stdout.readline().split()[:2] == ["2", "dual_write"]


def test_a_bot_with_other_stores_is_warned_about_and_not_counted(workplace: Any) -> None:
    """A decision about a pair that the running bot does not have is not reported as followed by it."""
    assert _set(workplace, "shadow_read", "--why", "w").code == 0
    control = ControlStore(workplace.path / "storage" / "control.db", ("old", "new"))
    control.beat(MemberId.draw(), 7)
    for command in (("show",), ("set", "shadow_read", "--why", "w", "--wait", "0")):
        found = workplace.run(*BOTH, "phase", *command, "--json").json
        assert found["members"] == []
        assert [(one["stores"], one["pid"]) for one in found["other_pairs"]] == [("old>new", os.getpid())]
        shown = workplace.run(*BOTH, "phase", *command).out
        assert "a bot runs with old>new" in shown
        assert "this decision is about json>sqlite and does not reach it" in shown


def test_the_new_store_leads_only_with_proof(workplace: Any) -> None:
    """A cutover of stores that differ is refused with the kinds; copying makes it possible, and so does --force."""
    workplace.fill("json")
    workplace.fill("sqlite", trades=1, positions=0)
    step = (*BOTH, "phase", "set")
    assert workplace.run(*step, "shadow_read", "--why", "w", "--wait", "0").code == 0
    refused = workplace.run(*step, "cutover", "--why", "in a hurry", "--wait", "0")
    assert refused.code == 2
    assert "the stores do not agree on trades" in refused.err
    assert "--force" in refused.err
    share = workplace.run(
        *step, "shadow_read", "--kind", "positions", "--share", "25%", "--why", "w", "--wait", "0"
    )
    assert "the stores do not agree on positions (3 keys)" in share.err
    assert workplace.run(*BOTH, "phase", "show", "--json").json["phases"][0]["phase"] == "shadow_read"
    forced = workplace.run(*step, "cutover", "--why", "in a hurry", "--force", "--wait", "0", "--json")
    assert forced.json["changes"][0]["why"] == "in a hurry (forced: not verified)"
    assert workplace.run(*step, "shadow_read", "--why", "back", "--wait", "0").code == 0
    assert workplace.run(*BOTH, "copy").code == 0
    assert workplace.run(*BOTH, "copy", "--from", "sqlite", "--to", "json").code == 0
    proven = workplace.run(*step, "cutover", "--why", "copied and verified", "--wait", "0", "--json")
    assert proven.json["changes"][0]["why"] == "copied and verified"


def test_what_is_not_mirrored_is_not_cut_over(workplace: Any) -> None:
    """A kind whose mode is off stays with its store, unless STORAGE_PLACES has taken it out of the migration."""
    off = {"STORAGE_MIRROR_MODE": "journaled,trades:off"}
    step = ("phase", "set", "--why", "w", "--wait", "0", "--force")
    assert workplace.run(*BOTH, *step, "shadow_read", env=off).code == 0
    for kinds in (("--kind", "trades"), ()):
        refused = workplace.run(*BOTH, *step, "cutover", *kinds, env=off)
        assert refused.code == 2
        assert "trades:off" in refused.err
        assert workplace.run(*BOTH, "phase", "show", "--json", env=off).json["epoch"] == 1
    assert workplace.run(*BOTH, *step, "cutover", "--kind", "positions", env=off).code == 0
    assert workplace.run(*BOTH, *step, "cutover", env={**off, "STORAGE_PLACES": "trades:json"}).code == 0
