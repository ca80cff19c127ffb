"""The control store: decisions, their history, and who follows them."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigurationError, PhaseError
from gateway.migration.control import ALL_KINDS, ControlState, ControlStore, MemberId, resolve
from gateway.migration.decisions import check_move
from gateway.migration.phases import ORDER, Phase
from gateway.records import POSITIONS, TRADES
from gateway.routing import KindPlan, RoutingPlan

PAIR = ("old", "new")
BASE = RoutingPlan(PAIR, KindPlan(Phase.DUAL_WRITE), {"positions": KindPlan(Phase.DUAL_WRITE, 25)})


class Said(TypedDict):
    """Who decides and why."""

    who: str
    why: str


SAID: Said = {"who": "ana", "why": "stores agree"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A place for a control store, in a directory that is not there yet, with a name that needs escaping."""
    return tmp_path / "data dir?#" / "контроль.db"


@pytest.fixture
def control(path: Path) -> ControlStore:
    """A control store that nobody has written yet."""
    return ControlStore(path, PAIR)


def test_a_missing_file_has_decided_nothing(control: ControlStore, path: Path) -> None:
    """Looking at a control store that is not there finds nothing, and does not make it."""
    assert control.state() == ControlState()
    assert control.epoch() == 0
    assert control.history() == ()
    assert control.members() == ()
    assert control.explain("trades") == "environment"
    assert not path.exists()


def test_a_decision_is_kept_with_who_and_why(control: ControlStore) -> None:
    """A step is found again with its epoch, author and reason, by another reader of the same file."""
    change = control.set_phase("trades", Phase.SHADOW_READ, base=BASE, **SAID)
    assert change.before == KindPlan(Phase.DUAL_WRITE)
    assert change.after == KindPlan(Phase.SHADOW_READ)
    other = ControlStore(control.path, PAIR)
    assert other.state().plans == {"trades": KindPlan(Phase.SHADOW_READ)}
    assert other.epoch() == change.epoch == 1
    assert other.history() == (change,)
    assert other.explain("trades") == "control store, epoch 1, by ana: stores agree"
    assert other.explain("positions") == "environment"


def test_the_file_is_for_its_owner_alone(control: ControlStore, path: Path) -> None:
    """The control store is made with mode 0600, whatever the umask allows."""
    control.set_phase("trades", Phase.SHADOW_READ, base=BASE, **SAID)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_syncs_and_logs_ahead(control: ControlStore) -> None:
    """A decision survives power loss: the file is in WAL mode and each connection syncs fully."""
    control.set_phase("trades", Phase.SHADOW_READ, base=BASE, **SAID)
    with control.file.writing() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_skipped_phase_changes_nothing(control: ControlStore) -> None:
    """A refused step leaves phases, epoch and history as they were."""
    control.set_phase("trades", Phase.SHADOW_READ, base=BASE, **SAID)
    before = (control.state(), control.history())
    with pytest.raises(PhaseError, match="skips a phase"):
        control.set_phase("trades", Phase.COMPLETE, base=BASE, **SAID)
    assert (control.state(), control.history()) == before


def test_the_environment_is_where_a_kind_stands_first(control: ControlStore) -> None:
    """Without a decision the step is checked against where the environment puts the kind."""
    with pytest.raises(PhaseError):
        control.set_phase("trades", Phase.CUTOVER, base=KindPlan(Phase.DUAL_WRITE), **SAID)
    control.set_phase("trades", Phase.CUTOVER, base=KindPlan(Phase.SHADOW_READ), **SAID)
    with pytest.raises(PhaseError):
        control.set_phase("trades", Phase.DUAL_WRITE, base=KindPlan(Phase.SHADOW_READ), **SAID)


def test_a_decision_for_all_is_where_the_others_stand(control: ControlStore) -> None:
    """A kind follows the decision for all until it has its own, which is checked against that."""
    base = RoutingPlan(PAIR, KindPlan(Phase.DUAL_WRITE))
    control.set_phase(ALL_KINDS, Phase.SHADOW_READ, base=base, **SAID)
    assert control.explain("trades") == "control store, epoch 1, by ana for all kinds: stores agree"
    change = control.set_phase("trades", Phase.CUTOVER, base=base, **SAID)
    assert change.before.phase is Phase.SHADOW_READ
    plan = resolve(base, control.state())
    assert plan.plan_of(TRADES).phase is Phase.CUTOVER
    assert plan.plan_of(POSITIONS).phase is Phase.SHADOW_READ
    assert plan.epoch == 2


def test_a_decision_for_all_minds_what_the_environment_names(control: ControlStore) -> None:
    """All kinds cannot go to legacy while the environment has the new store lead for some keys of one."""
    with pytest.raises(PhaseError, match="25 percent"):
        control.set_phase(ALL_KINDS, Phase.LEGACY, base=BASE, **SAID)
    control.set_phase("positions", Phase.DUAL_WRITE, base=BASE, **SAID)
    control.set_phase(ALL_KINDS, Phase.LEGACY, base=BASE, **SAID)
    plan = resolve(BASE, control.state())
    assert plan.plan_of(TRADES).phase is Phase.LEGACY
    assert plan.plan_of(POSITIONS).phase is Phase.LEGACY


def test_decisions_belong_to_a_pair_of_stores(control: ControlStore, path: Path) -> None:
    """What was completed between two stores says nothing about the next migration; the audit keeps both."""
    control.set_phase("trades", Phase.COMPLETE, base=KindPlan(Phase.CUTOVER), **SAID)
    following = ControlStore(path, ("new", "newest"))
    assert following.state().plans == {}
    assert following.explain("trades") == "environment"
    following.set_phase("trades", Phase.SHADOW_READ, base=BASE, **SAID)
    assert control.state().plans == {"trades": KindPlan(Phase.COMPLETE)}
    assert [change.pair for change in control.history()] == ["new>newest", "old>new"]


def test_one_store_has_no_phases(path: Path) -> None:
    """With a single store there is nothing to move between, and no file is made to say so."""
    with pytest.raises(ConfigurationError, match="one store only"):
        ControlStore(path, ("only",)).set_phase("trades", Phase.LEGACY, base=BASE, **SAID)
    assert not path.exists()


@pytest.mark.parametrize(("who", "why"), [("", "x"), ("ana", "  "), ("a" * 2000, "x")])
def test_an_author_and_a_reason_are_needed(control: ControlStore, path: Path, who: str, why: str) -> None:
    """A decision without who or why, or with endless ones, is not taken."""
    with pytest.raises(ConfigurationError):
        control.set_phase("trades", Phase.SHADOW_READ, base=BASE, who=who, why=why)
    assert not path.exists()


def test_the_audit_trail_cannot_be_changed(control: ControlStore) -> None:
    """Neither an update nor a deletion gets through to the history, even by SQL."""
    change = control.set_phase("trades", Phase.SHADOW_READ, base=BASE, **SAID)
    for statement in ("DELETE FROM audit", "UPDATE audit SET who = 'nobody'"):
        with pytest.raises(ConfigurationError, match="append-only"), control.file.writing() as connection:
            connection.execute(statement)
    assert control.history() == (change,)


def test_the_history_is_the_newest_first_and_limited(control: ControlStore) -> None:
    """Every step is kept in order, and as many are given as were asked for."""
    for share in (1, 2, 3):
        control.set_phase("trades", Phase.DUAL_WRITE, share=share, base=BASE, **SAID)
    assert [change.after.share for change in control.history()] == [3, 2, 1]
    assert [change.epoch for change in control.history(2)] == [3, 2]


def test_members_are_those_heard_of_lately(control: ControlStore) -> None:
    """A member is listed with the epoch it follows, replaces its own entry, and goes when it leaves."""
    one, two = MemberId("a" * 16, "host", 1), MemberId("b" * 16, "host", 2)
    control.beat(one, 0)
    control.beat(one, 3)
    control.beat(two, 2)
    assert [(member.id, member.epoch) for member in control.members()] == [(one, 3), (two, 2)]
    assert control.members(timedelta(seconds=-1)) == ()
    control.leave(one)
    assert [member.id for member in control.members()] == [two]


def test_members_belong_to_a_pair_of_stores(control: ControlStore, path: Path) -> None:
    """A bot with other stores is no member of this migration, and is found apart from its members."""
    here, there = MemberId("a" * 16, "host", 1), MemberId("b" * 16, "host", 2)
    other = ControlStore(path, ("new", "third"))
    control.beat(here, 0)
    other.beat(there, 4)
    assert [member.id for member in control.members()] == [here]
    assert [(member.id, member.pair) for member in control.other_members()] == [(there, "new>third")]
    assert [member.id for member in other.members()] == [there]
    other.leave(there)
    assert control.other_members() == ()


def test_a_member_id_names_this_process() -> None:
    """Two gateways of one process have its number and different instances."""
    one, two = MemberId.draw(), MemberId.draw()
    assert one.pid == two.pid
    assert one.instance != two.instance


def test_a_damaged_file_says_what_to_do(control: ControlStore, path: Path) -> None:
    """Neither reading nor writing takes a damaged control store for an empty one, and neither touches it."""
    control.set_phase("trades", Phase.SHADOW_READ, base=BASE, **SAID)
    path.write_bytes(b"no database at all" * 500)
    for look in (control.state, lambda: control.set_phase("trades", Phase.SHADOW_READ, base=BASE, **SAID)):
        with pytest.raises(ConfigurationError, match=r"damaged.*backup"):
            look()
    assert path.read_bytes() == b"no database at all" * 500


def test_another_programs_database_is_left_alone(control: ControlStore, path: Path) -> None:
    """A SQLite file that is no control store is refused with the variable to correct."""
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE trades (id)")
    connection.close()
    with pytest.raises(ConfigurationError, match=r"another program.*STORAGE_CONTROL_URL"):
        control.set_phase("trades", Phase.SHADOW_READ, base=BASE, **SAID)


def test_a_newer_schema_is_refused(control: ControlStore, path: Path) -> None:
    """An older gateway neither reads nor writes what a newer one made."""
    control.set_phase("trades", Phase.SHADOW_READ, base=BASE, **SAID)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(ConfigurationError, match=r"newer gateway \(schema 99"):
        control.state()


def test_a_directory_is_no_control_store(tmp_path: Path) -> None:
    """A path that is a directory is reported, not guessed around."""
    with pytest.raises(ConfigurationError, match="cannot be used"):
        ControlStore(tmp_path, PAIR).state()


def test_a_parent_that_is_a_file_is_reported(tmp_path: Path) -> None:
    """A control store below a file cannot be made, and the message says where to look."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"STORAGE_CONTROL_URL|cannot be"):
        ControlStore(tmp_path / "file" / "control.db", PAIR).beat(MemberId.draw(), 0)


def test_an_empty_file_is_taken_over(control: ControlStore, path: Path) -> None:
    """A file left empty by a process that died while making it counts as nothing decided, and is filled."""
    path.parent.mkdir()
    path.touch()
    assert control.state() == ControlState()
    control.set_phase("trades", Phase.SHADOW_READ, base=BASE, **SAID)
    assert control.epoch() == 1


_WORKER = """
import sys
from pathlib import Path
from typing import TypedDict
from gateway.migration.control import ControlStore, MemberId
from gateway.migration.phases import Phase
from gateway.routing import KindPlan
store = ControlStore(Path(sys.argv[1]), ("old", "new"), busy_timeout=30)
for share in range(20):
    base = KindPlan(Phase.DUAL_WRITE)
    store.set_phase(sys.argv[2], Phase.DUAL_WRITE, share=share, who=sys.argv[2], why="race", base=base)
    store.beat(MemberId.draw(), share)
"""


def test_processes_take_turns(control: ControlStore, path: Path) -> None:
    """Processes that make and change one control store at once get epochs of their own and lose no step."""
    names = ["alerts", "events", "trades"]
    workers = [subprocess.Popen([sys.executable, "-c", _WORKER, str(path), name]) for name in names]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    history = control.history(1000)
    assert [change.epoch for change in history] == list(range(60, 0, -1))
    for name in names:
        assert [change.after.share for change in history if change.kind == name] == list(range(19, -1, -1))
    assert len(control.members(timedelta(minutes=5))) == 60


def test_the_first_writers_may_come_at_once(tmp_path: Path) -> None:
    """Threads that all find no file make one control store together, again and again, and none is refused."""
    for attempt in range(10):
        path, barrier = tmp_path / f"{attempt}.db", threading.Barrier(6)

        def write(path: Path = path, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            ControlStore(path, PAIR, busy_timeout=30).beat(MemberId.draw(), 0)

        with ThreadPoolExecutor(6) as pool:
            for done in [pool.submit(write) for _ in range(6)]:
                done.result()
        assert len(ControlStore(path, PAIR).members(timedelta(minutes=5))) == 6


PLANS = st.builds(
    KindPlan, st.sampled_from([Phase.DUAL_WRITE, Phase.SHADOW_READ]), st.integers(0, 100)
) | st.builds(KindPlan, st.sampled_from(ORDER))


@given(PLANS, PLANS, st.floats(0, 100, exclude_max=True))
def test_no_key_ever_leaves_a_store_that_the_others_need(
    current: KindPlan, wanted: KindPlan, key: float
) -> None:
    """No allowed move takes a key in one go between one store alone and the other store leading."""
    try:
        check_move(current, wanted)
    except PhaseError:
        return
    before, after = current.phase_of(key), wanted.phase_of(key)
    alone = {Phase.LEGACY: {Phase.LEGACY, Phase.DUAL_WRITE}, Phase.COMPLETE: {Phase.CUTOVER, Phase.COMPLETE}}
    for one, other in ((before, after), (after, before)):
        assert one not in alone or other in alone[one]


def test_a_share_waits_for_history() -> None:
    """From legacy no share can be led by a store that has no history, and in cutover a share says nothing."""
    with pytest.raises(PhaseError, match="gateway copy"):
        check_move(KindPlan(Phase.LEGACY), KindPlan(Phase.DUAL_WRITE, 10))
    with pytest.raises(PhaseError, match="every key"):
        check_move(KindPlan(Phase.SHADOW_READ), KindPlan(Phase.CUTOVER, 10))


def test_resolving_leaves_the_environment_what_is_its_own() -> None:
    """Without decisions the plan is the environment's, but for the epoch."""
    assert resolve(BASE, ControlState(epoch=7)) == RoutingPlan(
        BASE.backends, BASE.default, BASE.kinds, BASE.mirror, epoch=7
    )


def test_a_decision_for_all_wins_over_what_the_environment_names(control: ControlStore) -> None:
    """Once all kinds are moved, a share that the environment gave one of them holds no more."""
    control.set_phase(ALL_KINDS, Phase.SHADOW_READ, base=BASE, **SAID)
    assert resolve(BASE, control.state()).plan_of(POSITIONS) == KindPlan(Phase.SHADOW_READ)
