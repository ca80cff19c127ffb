"""`gateway mirror`, and what other commands say and do about mirrors that are behind."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway import Gateway
from gateway.cli.session import Session
from gateway.mirror.homes import Change
from gateway.mirror.state import paused, resumed, resumed_intents, suspended
from gateway.records.stamp import DEFAULT_TENANT
from gateway.sql.intents import SQLITE_INTENTS

NOW = datetime(2026, 11, 21, tzinfo=UTC)
PAIRS = ["json,sqlite", "sqlite,json", "old=sqlite,new=sqlite"]


def environ(workplace: Any, backends: str, **given: str) -> dict[str, str]:
    """Return the variables of two stores in the workplace; the second is the mirror."""
    variables = {"STORAGE_BACKENDS": backends, "STORAGE_DATA_DIR": str(workplace.path / "storage")}
    if backends.startswith("old="):
        variables |= {
            "STORAGE_OLD_URL": str(workplace.path / "o.db"),
            "STORAGE_NEW_URL": str(workplace.path / "n.db"),
        }
    return variables | given


def mirror_of(backends: str) -> str:
    """Return the instance name of the second store."""
    return backends.split(",")[1].split("=")[0]


def change_state(env: dict[str, str], primary: str, target: str, change: Change) -> None:
    """Change what is kept of a mirror, as bots do."""
    from gateway.cli.actions.mirroring import home

    async def work() -> None:
        session = Session(
            Path("none"), {name.removeprefix("STORAGE_").lower(): text for name, text in env.items()}
        )
        async with home(session, primary, writable=True) as kept:
            await kept.states.change(target, change)

    asyncio.run(work())


def write(env: dict[str, str], count: int = 5) -> None:
    """Let a bot write."""

    async def work() -> None:
        async with Gateway(environ=env, env_file=None) as gateway:
            for number in range(count):
                await gateway.save_position(
                    condition_id=f"m{number}", side="YES", entry_price=1, opened_at=NOW
                )

    asyncio.run(work())


@pytest.fixture(params=PAIRS)
def held(request: pytest.FixtureRequest, workplace: Any) -> tuple[dict[str, str], str]:
    """Give variables of two stores, and a mirror that was paused while a bot wrote five positions."""
    env, target = environ(workplace, request.param), mirror_of(request.param)
    write(env, 0)
    done = workplace.run("mirror", "pause", target, "--why", "moving\nit", "--who", "ann", env=env)
    assert done.code == 0, done.err
    assert f"gateway mirror resume {target}" in done.err
    write(env)
    return env, target


def test_a_pause_is_seen_and_ended(workplace: Any, held: tuple[dict[str, str], str]) -> None:
    """Status says who and why, and what waits; drain says that it is of no use; after resume drain hands it over."""
    env, target = held
    found = workplace.run("mirror", "status", "--json", env=env)
    assert found.code == 1
    (one,) = found.json["mirrors"]
    assert {
        "mirror": target,
        "depth": 5,
        "paused": True,
        "paused_by": "ann",
        "pause_reason": "moving it",
    }.items() <= (one.items())
    assert "positions" in one["modes"]["journaled"]
    assert one["oldest_seconds"] >= 0
    shown = workplace.run("mirror", "status", env=env)
    assert (shown.code, "paused by ann: moving it" in shown.out) == (1, True)
    stuck = workplace.run("mirror", "drain", target, "--json", env=env)
    assert stuck.code == 1
    assert stuck.json["mirrors"][0]["left"] == 5
    assert "resume" in stuck.json["mirrors"][0]["why"]
    assert workplace.run("mirror", "resume", target, "--json", env=env).json == {
        "mirror": target,
        "paused": False,
        "changed": True,
    }
    assert "was not paused" in workplace.run("mirror", "resume", target, env=env).out
    drained = workplace.run("mirror", "drain", "--json", env=env)
    assert drained.code == 0, drained.err
    assert {one["mirror"]: one["handed_over"] for one in drained.json["mirrors"]}[target] == 5
    assert workplace.run("mirror", "status", "--json", env=env).code == 0
    assert workplace.run("verify", env=env).code == 0


def test_doctor_and_health_tell_of_it(workplace: Any, held: tuple[dict[str, str], str]) -> None:
    """A paused mirror is a warning, and no failure of the stores."""
    env, target = held
    checks = workplace.run("doctor", "--json", env=env).json["checks"]
    (found,) = [one for one in checks if one["subject"] == f"mirror {target}"]
    assert found["level"] == "warn"
    assert "paused by ann" in found["sentence"]
    health = workplace.run("health", "--json", env=env)
    assert health.code == 0
    (one,) = health.json["mirrors"]
    assert (one["depth"], one["paused"]) == (5, True)
    assert "paused by ann" in workplace.run("health", env=env).out


def test_another_store_does_not_lead_before_it_has_everything(
    workplace: Any, held: tuple[dict[str, str], str]
) -> None:
    """The step is refused and names the command; once that has run, it is taken."""
    env, target = held
    assert workplace.run("phase", "set", "shadow_read", "--why", "next", env=env).code == 0
    step = ("phase", "set", "cutover", "--why", "next", "--wait", "0")
    differ = workplace.run(*step, env=env)
    assert differ.code == 2
    assert workplace.run("copy", env=env).code == 0
    refused = workplace.run(*step, env=env)
    assert refused.code == 2
    assert f"5 changes have yet to reach {target}" in refused.err
    assert "paused by ann" in refused.err
    assert workplace.run("mirror", "resume", target, env=env).code == 0
    waiting = workplace.run(*step, env=env)
    assert f"gateway mirror drain {target}" in waiting.err
    assert workplace.run("mirror", "drain", env=env).code == 0
    assert workplace.run(*step, env=env).code == 0


def test_the_way_back_asks_the_same(workplace: Any) -> None:
    """From cutover back to shadow_read the old store leads again, so it must have what the new one was given."""
    env = environ(workplace, "json,sqlite")
    write(env, 0)
    for phase in ("shadow_read", "cutover"):
        assert workplace.run("phase", "set", phase, "--why", "on", env=env).code == 0
    assert workplace.run("mirror", "pause", "json", "--why", "x", env=env).code == 0
    write(env, 3)
    back = ("phase", "set", "shadow_read", "--why", "back", "--wait", "0")
    assert "3 changes have yet to reach json" in workplace.run(*back, env=env).err
    assert workplace.run(*back, "--force", env=env).code == 0


def test_the_way_back_from_a_store_that_is_gone_has_to_be_forced(workplace: Any) -> None:
    """Nobody can know what only that one has; the refusal says how to go back all the same."""
    env = environ(workplace, "json,sqlite")
    write(env, 0)
    for phase in ("shadow_read", "cutover"):
        assert workplace.run("phase", "set", phase, "--why", "on", env=env).code == 0
    (workplace.path / "storage" / "gateway.db").rename(workplace.path / "gone.db")
    back = ("phase", "set", "shadow_read", "--why", "back", "--wait", "0")
    refused = workplace.run(*back, env=env)
    assert refused.code == 2
    assert "whether json has everything cannot be known: sqlite: there is no store" in refused.err
    assert "add --force" in refused.err
    assert workplace.run(*back, "--force", env=env).code == 0


def test_only_a_whole_and_late_copy_takes_the_mark_off(workplace: Any) -> None:
    """Not one of a kind, nor a dry run, nor one that began before intents were written again."""
    env = environ(workplace, "json,sqlite")
    write(env)
    change_state(env, "json", "sqlite", partial(suspended, since=1 << 16, why="too many"))
    found = workplace.run("mirror", "status", "--json", env=env)
    assert found.code == 1
    assert found.json["mirrors"][0]["behind_since_time"] == "1970-01-01T00:00:00.001Z"
    assert "gateway copy --from json --to sqlite" in found.json["mirrors"][0]["problems"][0]
    assert "needs a copy" in workplace.run("mirror", "status", env=env).out
    checks = workplace.run("doctor", "--json", env=env).json["checks"]
    assert {one["subject"]: one["level"] for one in checks}["mirror sqlite"] == "fail"
    assert workplace.run("phase", "set", "shadow_read", "--why", "on", env=env).code == 0
    assert "sqlite cannot lead" in workplace.run("phase", "set", "cutover", "--why", "on", env=env).err
    assert "stays marked" in workplace.run("copy", env=env).err
    change_state(env, "json", "sqlite", lambda state: resumed_intents(state, NOW))
    for args in (("copy", "--kind", "positions"), ("copy", "--dry-run")):
        assert "mark" not in workplace.run(*args, env=env).err
        assert workplace.run("mirror", "status", env=env).code == 1
    assert "the mark is taken off" in workplace.run("copy", env=env).err
    assert workplace.run("mirror", "status", env=env).code == 0
    assert workplace.run("copy", env=env).err == ""


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("pause", "nowhere", "--why", "x"), "no store 'nowhere' is configured"),
        (("pause", "sqlite"), "--why"),
        (("pause", "sqlite", "--why", "  "), "--why is empty"),
        (("pause", "sqlite", "--why", "x", "--who", ""), "--who is empty"),
        (("pause", "sqlite", "--why", "x" * 2000), "shorten it"),
        (("resume", "nowhere"), "no store 'nowhere' is configured"),
        (("drain", "nowhere"), "no store 'nowhere' is configured"),
        (("drain", "sqlite", "--timeout", "-1"), "--timeout"),
        (("status", "--watch", "--interval", "0"), "--interval"),
    ],
)
def test_wrong_use_is_refused(workplace: Any, args: tuple[str, ...], says: str) -> None:
    """With exit code 2 and a sentence, before anything is opened."""
    env = environ(workplace, "json,sqlite")
    done = workplace.run("mirror", *args, env={**env, "COLUMNS": "200"})
    assert done.code == 2
    assert says in done.err
    assert not (workplace.path / "storage").exists()


def test_one_store_has_no_mirror(workplace: Any) -> None:
    """Status is fine with that; the commands that act say that there is none."""
    env = environ(workplace, "sqlite")
    status = workplace.run("mirror", "status", env=env)
    assert (status.code, "nothing is mirrored" in status.out) == (0, True)
    for args in (("drain",), ("pause", "sqlite", "--why", "x"), ("resume", "sqlite")):
        done = workplace.run("mirror", *args, env=env)
        assert done.code == 2
        assert "there is one store only" in done.err


def test_what_cannot_be_known_is_said_to_be_unknown(workplace: Any) -> None:
    """A store that is not there, and a journal in the memory of a bot, are no empty journals."""
    missing = workplace.run("mirror", "status", "--json", env=environ(workplace, "sqlite,json"))
    assert missing.code == 3
    assert missing.json["mirrors"][0]["depth"] is None
    assert "there is no store" in missing.json["mirrors"][0]["unknown"]
    memory = environ(workplace, "memory,sqlite")
    status = workplace.run("mirror", "status", env=memory)
    assert status.code == 3
    assert "in the memory of the bots' processes" in status.out
    for args in (("drain", "sqlite"), ("pause", "sqlite", "--why", "x")):
        done = workplace.run("mirror", *args, env=memory)
        assert done.code == 2
        assert "in the memory of the bots' processes" in done.err


def test_watching_goes_on_until_interrupted(workplace: Any) -> None:
    """Each look is a document of its own; an interrupt ends it with the exit code of one."""
    env = environ(workplace, "json,sqlite")
    write(env)
    command = (
        sys.executable,
        "-m",
        "gateway.cli",
        "mirror",
        "status",
        "--watch",
        "--interval",
        "0.1",
        "--json",
    )
    with subprocess.Popen(
        command, env={**_plain(), **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        lines = [json.loads(child.stdout.readline()) for _ in range(3)]
        child.send_signal(signal.SIGINT)
        assert child.stderr is not None
        assert child.stderr.read() == b""
        assert child.wait(timeout=30) == 130
    assert [one["mirrors"][0]["mirror"] for one in lines] == ["sqlite"] * 3
    assert lines[0]["checked_at"] < lines[2]["checked_at"]


def test_a_mirror_that_is_behind_is_not_called_ok(workplace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where changes have waited for longer than any mirror that keeps up needs, the table says so."""
    from gateway.cli.actions import mirroring

    env = environ(workplace, "json,sqlite")
    write(env, 0)
    change_state(env, "json", "sqlite", partial(paused, by="ann", why="x", now=NOW))
    write(env)
    change_state(env, "json", "sqlite", resumed)
    monkeypatch.setattr(mirroring, "_LATE", 3600.0)
    assert " ok" in workplace.run("mirror", "status", env=env).out
    monkeypatch.setattr(mirroring, "_LATE", 0.0)
    assert " behind" in workplace.run("mirror", "status", env=env).out


def _plain() -> dict[str, str]:
    import os

    return {name: text for name, text in os.environ.items() if not name.startswith("STORAGE_")}


def test_a_running_bot_is_paused_and_resumed_from_outside(workplace: Any) -> None:
    """Through the store alone: it stops writing its mirror, and hands over what gathered, while it goes on writing."""
    env = environ(workplace, "json,sqlite")

    async def run(*args: str) -> Any:
        return await asyncio.to_thread(workplace.run, *args, env=env)

    async def until(gateway: Gateway, wanted: bool) -> None:
        end = time.monotonic() + 30
        while ((await gateway.health()).details["mirrors"][0]["paused"] is not None) is not wanted:
            assert time.monotonic() < end, "the bot does not notice"
            await asyncio.sleep(0.02)

    async def work() -> None:
        async with Gateway(environ=env, env_file=None) as gateway:
            assert (await run("mirror", "pause", "sqlite", "--why", "x")).code == 0
            await until(gateway, True)
            await gateway.save_position(condition_id="a", side="YES", entry_price=1, opened_at=NOW)
            (one,) = (await run("mirror", "status", "--json")).json["mirrors"]
            assert one["depth"] == 1
            assert (await run("mirror", "resume", "sqlite")).code == 0
            drained = await run("mirror", "drain", "sqlite", "--timeout", "30")
            assert drained.code == 0, drained.out
        assert (await run("verify")).code == 0

    asyncio.run(work())


def test_draining_beside_a_bot_that_never_rests_ends(workplace: Any) -> None:
    """There is always something on its way then; what was waiting when it was asked arrives, and it says so."""
    env = environ(workplace, "sqlite,json")

    async def work() -> None:
        async with Gateway(environ=env, env_file=None) as gateway:
            resting = False

            async def trade() -> None:
                while not resting:
                    await gateway.save_position(condition_id="a", side="YES", entry_price=1, opened_at=NOW)

            trading = asyncio.create_task(trade())
            try:
                found = await asyncio.to_thread(
                    workplace.run, "mirror", "drain", "json", "--timeout", "60", "--json", env=env
                )
            finally:
                resting = True
                await trading
        (one,) = found.json["mirrors"]
        assert (found.code, one["left"], one["why"]) == (0, 0, None)
        assert one["newer"] > 0

    asyncio.run(work())


def test_changes_of_a_kind_that_is_not_known_here_are_left(workplace: Any) -> None:
    """They are another program's, whose plugin is missing here; the command does not say that they have arrived."""
    env = environ(workplace, "sqlite,json")
    write(env)
    with closing(sqlite3.connect(Path(env["STORAGE_DATA_DIR"]) / "gateway.db")) as file, file:
        file.execute(
            f"INSERT INTO {SQLITE_INTENTS} (tenant_id, target, owner, number, part, kind, key, version, noted_at) "  # noqa: S608 - a fixed name
            "VALUES (?, 'json', 'another', 1, 0, 'strange', '[\"a\"]', 1, 1)",
            (DEFAULT_TENANT,),
        )
    drained = workplace.run("mirror", "drain", "json", "--timeout", "1", "--json", env=env)
    (one,) = drained.json["mirrors"]
    assert (drained.code, one["left"], one["newer"]) == (1, 1, 0)


def test_a_pause_of_before_holds_at_the_start(workplace: Any) -> None:
    """A bot that is started while its mirror is paused writes nothing to it, not even the first row."""
    env = environ(workplace, "json,sqlite")
    write(env, 0)
    change_state(env, "json", "sqlite", partial(paused, by="ann", why="x", now=NOW))
    write(env)
    assert workplace.run("query", "positions", "--store", "sqlite", "--json", env=env).json["records"] == []
    (one,) = workplace.run("mirror", "status", "--json", env=env).json["mirrors"]
    assert one["depth"] == 5


def test_what_waits_under_a_name_that_is_gone_is_said_and_can_be_forgotten(workplace: Any) -> None:
    """A mirror that is renamed does not get it; nobody may learn that by chance, and a name in use is not forgotten."""
    env = environ(workplace, "sqlite,json")
    write(env, 0)
    assert workplace.run("mirror", "pause", "json", "--why", "moving", env=env).code == 0
    write(env, 5)
    renamed = environ(workplace, "sqlite,other=json")
    found = workplace.run("mirror", "status", "--json", env=renamed)
    assert found.code == 1
    (one,) = found.json["mirrors"]
    assert one["mirror"] == "other"
    assert "5 changes wait for json, which STORAGE_BACKENDS does not name" in one["problems"][0]
    refused = workplace.run("mirror", "forget", "other", env=renamed)
    assert (refused.code, "mirror drain other" in refused.err) == (2, True)
    assert workplace.run("mirror", "forget", "json", "--json", env=renamed).json == {
        "mirror": "json",
        "dropped": 5,
    }
    assert workplace.run("mirror", "status", env=renamed).code == 0
    assert "nothing waited" in workplace.run("mirror", "forget", "json", env=renamed).out
