"""Showing and setting phases, and waiting until the running bots follow."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.cli.actions.arrival import await_arrival
from gateway.cli.actions.verifying import compare_kinds
from gateway.cli.arguments import parse_share
from gateway.cli.exits import ExitCode
from gateway.cli.output import print_json, print_line, print_next, print_table
from gateway.cli.session import Session
from gateway.cli.values import time_text
from gateway.errors import ConfigurationError, PhaseError
from gateway.migration.control import ALL_KINDS, Change, ControlState, ControlStore, Member
from gateway.migration.decisions import FORCED, check_move, resolve
from gateway.migration.phases import Phase
from gateway.routing import KindPlan, RoutingPlan, leaders_moved

__all__ = ["Step", "live_members", "set_phases", "show_phases", "standing"]

_LOOK: Final = 0.05
_NEEDS_PROOF: Final = {Phase.CUTOVER, Phase.COMPLETE}

_NEXT: Final = {
    Phase.LEGACY: (),
    Phase.DUAL_WRITE: ("gateway copy", "gateway verify", "gateway phase set shadow_read --why '...'"),
    Phase.SHADOW_READ: ("gateway divergences", "gateway verify", "gateway phase set cutover --why '...'"),
    Phase.CUTOVER: (
        "gateway divergences",
        "gateway verify",
        "gateway phase set complete --why '...'    (no way back from there)",
        "gateway phase set shadow_read --why '...' (the way back)",
    ),
    Phase.COMPLETE: ("set STORAGE_BACKENDS to the new store alone at the bots' next restart",),
}


@dataclass(frozen=True, slots=True)
class Step:
    """What was typed.

    Attributes:
        phase: Name of the phase.
        kinds: Names of the kinds; none means all.
        share: Percent of the keys, as text.
        who: Who decides; None means the user of this process.
        why: The reason.
        wait: Seconds to wait for the running bots.
        force: Let the new store lead without proof.
    """

    phase: str
    kinds: tuple[str, ...]
    share: str
    who: str | None
    why: str
    wait: float
    force: bool = False


def standing(session: Session, state: ControlState) -> list[dict[str, Any]]:
    """Return where each kind stands, JSON-ready, with the decision behind it where there is one."""
    plan = resolve(session.configuration.plan, state)
    found = []
    for kind in session.kinds():
        held = plan.plan_of(kind)
        placed = plan.is_placed(kind)
        decision = None if placed else state.decision(kind.companion_of or kind.name)
        source = "environment" if decision is None else "control store"
        found.append(
            {
                "kind": kind.name,
                "phase": held.phase.value,
                "share": held.share,
                "companion_of": kind.companion_of,
                "source": "STORAGE_PLACES" if placed else source,
                "epoch": None if decision is None else decision.epoch,
                "who": None if decision is None else decision.who,
                "why": None if decision is None else decision.why,
                "when": None if decision is None else time_text(decision.at),
            }
        )
    return found


def show_phases(session: Session, *, history: int, as_json: bool) -> None:
    """Print where each kind stands, which bots follow, and the steps taken."""
    state = session.control.state()
    changes = session.control.history(history) if history else ()
    found: dict[str, Any] = {
        "stores": list(session.instances),
        "epoch": state.epoch,
        "phases": standing(session, state),
        "members": [_member(one, state.epoch) for one in live_members(session.control)],
        "other_pairs": _other_pairs(session.control),
        "history": [_change(one) for one in changes],
    }
    if as_json:
        print_json(found)
        return
    print_line(f"from {' to '.join(session.instances)}, epoch {state.epoch}", "bold")
    columns = ("kind", "phase", "share", "source", "epoch", "who", "why", "when")
    print_table(columns, [[_shown(name, one[name]) for name in columns] for one in found["phases"]])
    print_line("")
    _print_members(found["members"])
    _print_other_pairs(found["other_pairs"], session.control.pair)
    if changes:
        print_line("")
        columns = ("epoch", "when", "kind", "before", "after", "who", "why", "stores")
        print_table(columns, [[one[name] for name in columns] for one in found["history"]])


def _shown(name: str, value: Any) -> Any:
    return (f"{value:g}%" if value else "") if name == "share" else value


def set_phases(session: Session, step: Step, *, as_json: bool) -> ExitCode:
    """Take a step for the kinds named, wait for the bots, and say who follows.

    Raises:
        PhaseError: The step skips a phase or leaves the last, for one of the kinds, or the new store would lead
            without agreeing with the old one; nothing was changed.
        ConfigurationError: The phase, the share or the control store is no such thing.
    """
    phase, share = _phase_of(step.phase), parse_share(step.share)
    kinds = _leading(session, step.kinds)
    left_out = session.moving(step.kinds)[1]
    wanted = KindPlan(phase, share)
    _check_all(session, kinds, wanted)
    moved = leaders_moved(session.plan(), _moved_plan(session.plan(), kinds, wanted))
    why = step.why
    if share or phase in _NEEDS_PROOF:
        if step.force:
            why += FORCED
        else:
            _prove(session, step.kinds)
    if not step.force:
        running = bool(live_members(session.control))
        session.run(await_arrival(session, sorted(moved), step.wait, running=running))
    who = step.who if step.who is not None else getpass.getuser()
    base = session.configuration.plan
    # Bots report once there is a control store, so the first step has to wait for whoever is there.
    settle = (
        0.0 if session.control.file.present() else max(1.0, 4 * session.configuration.settings.control_poll)
    )
    changes = [
        session.control.set_phase(kind, phase, share=share, who=who, why=why, base=base) for kind in kinds
    ]
    epoch = changes[-1].epoch
    behind, members = _await_members(session.control, epoch, step.wait, settle)
    found: dict[str, Any] = {
        "epoch": epoch,
        "changes": [_change(one) for one in changes],
        "members": [_member(one, epoch) for one in members],
        "other_pairs": _other_pairs(session.control),
        "left_out": left_out,
        "followed": not behind,
    }
    if as_json:
        print_json(found)
    else:
        _print_step(found, phase, session.control.pair)
    return ExitCode.PROBLEM if behind else ExitCode.OK


def _moved_plan(plan: RoutingPlan, kinds: Sequence[str], wanted: KindPlan) -> RoutingPlan:
    """Return the plan after the step.

    Raises:
        ConfigurationError: The step cannot be, as for kinds that are not mirrored.
    """
    if kinds == (ALL_KINDS,):
        # What lives where STORAGE_PLACES says stays there.
        return replace(plan, default=wanted, kinds={name: plan.kinds[name] for name in plan.placed})
    return replace(plan, kinds={**plan.kinds, **dict.fromkeys(kinds, wanted)})


def _prove(session: Session, names: Sequence[str]) -> None:
    """Make sure that the stores agree before the new one leads.

    Raises:
        PhaseError: They do not; the message names the kinds.
        StoreError: One cannot be asked, so nothing is proven.
    """
    reports = session.run(compare_kinds(session, names, deep=False))
    wrong = [f"{one.kind} ({len(one.differing) + one.more} keys)" for one in reports if not one.ok]
    if wrong:
        raise PhaseError(
            f"the stores do not agree on {', '.join(wrong)}; run `gateway copy`, then `gateway verify`. "
            "To let the new store lead all the same, add --force, which is kept with the decision"
        )


def _phase_of(text: str) -> Phase:
    try:
        return Phase(text.strip().lower().replace("-", "_"))
    except ValueError:
        names = ", ".join(Phase)
        raise PhaseError(f"there is no phase {text!r}; the phases are {names}, in this order") from None


def _leading(session: Session, names: Sequence[str]) -> tuple[str, ...]:
    """Return the kinds to move, each once; `*` if none is named.

    Raises:
        UnknownKindError: Nobody registered one of them.
        ConfigurationError: One moves along with another.
    """
    for name in names:
        leader = session.kind(name).companion_of
        if leader is not None:
            raise ConfigurationError(f"{name} moves along with {leader}; set the phase of {leader}")
        if session.configuration.plan.is_placed(session.kind(name)):
            raise ConfigurationError(
                f"STORAGE_PLACES says where {name} lives, so it has no phase to set; take it out of STORAGE_PLACES, "
                "restart the bots, and set its phase then"
            )
    return tuple(dict.fromkeys(names)) or (ALL_KINDS,)


def _check_all(session: Session, kinds: Sequence[str], wanted: KindPlan) -> None:
    """Refuse the step for all kinds if one of them cannot take it, before any was moved."""
    plan = session.plan()
    moving = (kind.name for kind in session.kinds() if not plan.is_placed(kind))
    every = list(moving) if kinds == (ALL_KINDS,) else kinds
    for kind in every:
        try:
            check_move(plan.plan_of(session.kind(kind)), wanted)
        except PhaseError as error:
            if len(kinds) < 2:
                raise
            raise PhaseError(f"{kind}: {error} (nothing was changed for the other kinds either)") from error


def live_members(control: ControlStore) -> tuple[Member, ...]:
    """Return the gateways that run, without those of this machine whose process is gone."""
    return _alive(control.members())


def _alive(members: Sequence[Member]) -> tuple[Member, ...]:
    here = socket.gethostname()
    return tuple(one for one in members if one.id.host != here or _runs(one.id.pid))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it runs, as another user
    return True


def _await_members(
    control: ControlStore, epoch: int, seconds: float, settle: float
) -> tuple[list[Member], tuple[Member, ...]]:
    """Wait until every running gateway follows; return those that do not, and all.

    Args:
        control: Where they report.
        epoch: What they are to follow.
        seconds: How long to wait at most.
        settle: How long to wait at least, for those that have not reported yet.
    """
    started = time.monotonic()
    while True:
        members = live_members(control)
        behind = [one for one in members if one.epoch < epoch]
        waited = time.monotonic() - started
        if waited >= seconds or (not behind and waited >= settle):
            return behind, members
        time.sleep(_LOOK)


def _member(one: Member, epoch: int) -> dict[str, Any]:
    return {
        "host": one.id.host,
        "pid": one.id.pid,
        "instance": one.id.instance,
        "epoch": one.epoch,
        "follows": one.epoch >= epoch,
        "seen_at": time_text(one.seen_at),
    }


def _other_pairs(control: ControlStore) -> list[dict[str, Any]]:
    """Return the bots that run with other stores, by pair: a decision about this one does not reach them."""
    return [
        {
            "stores": one.pair,
            "host": one.id.host,
            "pid": one.id.pid,
            "instance": one.id.instance,
            "epoch": one.epoch,
            "seen_at": time_text(one.seen_at),
        }
        for one in _alive(control.other_members())
    ]


def _change(one: Change) -> dict[str, Any]:
    return {
        "epoch": one.epoch,
        "kind": one.kind,
        "before": _plan_text(one.before),
        "after": _plan_text(one.after),
        "who": one.who,
        "why": one.why,
        "when": time_text(one.at),
        "stores": one.pair,
    }


def _plan_text(plan: KindPlan) -> str:
    return f"{plan.phase.value} {plan.share:g}%" if plan.share else plan.phase.value


def _print_members(members: Sequence[dict[str, Any]]) -> None:
    if not members:
        print_line("no running bot has been heard of")
        return
    columns = ("host", "pid", "epoch", "follows", "seen_at")
    print_table(
        ("running on", "process", "epoch", "follows", "seen at"),
        [[_text(one[name]) for name in columns] for one in members],
        marked="follows",
    )


def _print_other_pairs(others: Sequence[dict[str, Any]], pair: str) -> None:
    for one in others:
        print_line(
            f"a bot runs with {one['stores']} (process {one['pid']} on {one['host']}); this decision is about "
            f"{pair} and does not reach it: give the command the bot's STORAGE_BACKENDS",
            "bold red",
        )


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _print_step(found: dict[str, Any], phase: Phase, pair: str) -> None:
    for one in found["changes"]:
        name = "all kinds" if one["kind"] == ALL_KINDS else one["kind"]
        print_line(
            f"{name}: {one['before']} -> {one['after']} "
            f"(epoch {one['epoch']}, by {one['who']}: {one['why']})",
            "bold",
        )
    _print_members(found["members"])
    _print_other_pairs(found["other_pairs"], pair)
    if not found["followed"]:
        print_line(
            "not every bot follows yet; they will once they see the control store "
            "(look again with `gateway phase show`)",
            "bold red",
        )
    print_next(_NEXT[phase])
