"""Verifying that two stores agree, or that one agrees with itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gateway.cli.actions.copying import copy_command, direction_of
from gateway.cli.exits import ExitCode
from gateway.cli.output import print_empty, print_json, print_line, print_next, print_table
from gateway.cli.progress import metered
from gateway.cli.session import Session
from gateway.cli.values import key_text
from gateway.errors import ConfigurationError
from gateway.migration.integrity import IntegrityReport, check_integrity
from gateway.migration.verify import KeyDifference, VerifyReport, verify_kind

__all__ = ["compare_kinds", "verify_kinds"]

_SHOWN: Final = 20
_DAMAGED: Final = "damaged: its values do not give its digest"


def verify_kinds(session: Session, names: Sequence[str], *, deep: bool, as_json: bool) -> ExitCode:
    """Verify kinds, and print what differs.

    Raises:
        ConfigurationError: There is one store only and the check is not deep.
        StoreError: A store cannot answer, so nothing is proven.
    """
    left_out: list[str] = []
    if len(session.instances) == 2:
        left_out = session.moving(names)[1]
        plan, specs = session.plan(), session.registry.kinds
        kinds = [
            _compared(one, plan.plan_of(specs.get(one.kind)).share)
            for one in session.run(compare_kinds(session, names, deep=deep))
        ]
    elif deep:
        kinds = [_checked(one) for one in session.run(_check(session, names))]
    else:
        raise ConfigurationError(
            "verifying compares two stores; name both in STORAGE_BACKENDS, the old one first, "
            "or check the rows of the one there is with --deep"
        )
    found = {
        "stores": list(session.instances),
        "deep": deep,
        "ok": all(one["ok"] for one in kinds),
        "kinds": kinds,
        "left_out": left_out,
    }
    if as_json:
        print_json(found)
    else:
        _print_verified(found)
    return ExitCode.OK if found["ok"] else ExitCode.PROBLEM


async def compare_kinds(session: Session, names: Sequence[str], *, deep: bool) -> list[VerifyReport]:
    """Verify each kind, the store that leads it now on the left."""
    plan, reports = session.plan(), []
    async with session.stores(*session.instances) as stores:
        with metered() as meter:
            for kind in session.moving(names)[0]:
                left, right = direction_of(plan, kind)
                report = await verify_kind(
                    stores[left],
                    stores[right],
                    kind,
                    session.tenant,
                    deep=deep,
                    on_progress=lambda seen: meter.show(seen.kind, seen.rows, seen.total),
                )
                reports.append(report)
    return reports


async def _check(session: Session, names: Sequence[str]) -> list[IntegrityReport]:
    (only,) = session.instances
    reports = []
    async with session.stores(only) as stores:
        with metered() as meter:
            for kind in session.kinds(names):
                report = await check_integrity(
                    stores[only],
                    kind,
                    session.tenant,
                    on_page=lambda rows, name=kind.name: meter.show(name, rows, rows),  # type: ignore[misc]  # bound now
                )
                reports.append(report)
    return reports


def _compared(one: VerifyReport, share: float) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "ok": one.ok,
        "leader": one.left,
        "share": share,
        "rows": {one.left: one.rows_left, one.right: one.rows_right},
        "differing": len(one.differing) + one.more,
        "differences": [_difference(one, found) for found in one.differing],
        "digests_equal": one.digests_equal,
        "ranges": one.ranges,
        "seconds": round(one.seconds, 3),
        "skipped": one.skipped,
    }


def _difference(report: VerifyReport, found: KeyDifference) -> dict[str, Any]:
    reason = found.reason.value.replace("the left", report.left).replace("the right", report.right)
    return {
        "key": list(found.key),
        "reason": reason,
        "versions": {report.left: found.left_version, report.right: found.right_version},
        "fields": list(found.fields),
    }


def _checked(one: IntegrityReport) -> dict[str, Any]:
    damaged = [
        {"key": list(row.key), "reason": _DAMAGED, "versions": {one.store: row.version}, "fields": []}
        for row in one.damaged
    ]
    return {
        "kind": one.kind,
        "ok": one.ok,
        "leader": one.store,
        "share": 0.0,
        "rows": {one.store: one.rows},
        "differing": len(one.damaged) + one.more,
        "differences": damaged,
        "digests_equal": one.ok,
        "ranges": 0,
        "seconds": None,
        "skipped": None,
    }


def _print_verified(found: dict[str, Any]) -> None:
    names = found["stores"]
    rows = [
        (
            one["kind"],
            *(one["rows"].get(name) for name in names),
            one["differing"],
            "ok" if one["ok"] else "fail",
        )
        for one in found["kinds"]
        if one["differing"] or any(one["rows"].values())
    ]
    print_table(
        ("kind", *(f"rows in {name}" for name in names), "differing", "result"), rows, marked="result"
    )
    shown = {row[0] for row in rows}
    print_empty(one["kind"] for one in found["kinds"] if one["kind"] not in shown and not one["skipped"])
    for sentence in found["left_out"]:
        print_line(sentence, "yellow")
    for one in found["kinds"]:
        if one["skipped"]:
            print_line(f"{one['kind']}: {one['skipped']}", "yellow")
        for difference in one["differences"][:_SHOWN]:
            fields = f" ({', '.join(difference['fields'])})" if difference["fields"] else ""
            print_line(
                f"{one['kind']} {key_text(tuple(difference['key']))}: {difference['reason']}{fields}",
                "bold red",
            )
        if one["differing"] > _SHOWN:
            print_line(f"{one['kind']}: {one['differing']:,} in all; see --json", "bold red")
    _print_verdict(found)


def _print_verdict(found: dict[str, Any]) -> None:
    names = found["stores"]
    print_line("")
    if found["ok"]:
        agreed = (
            f"{' and '.join(names)} agree" if len(names) == 2 else f"every row of {names[0]} gives its digest"
        )
        print_line(agreed, "green")
        print_next(("gateway phase show",) if len(names) == 2 else ())
        return
    print_line("they differ" if len(names) == 2 else f"{names[0]} holds damaged rows", "bold red")
    if len(names) == 2:
        print_next((*_copies(found), "gateway verify --deep   (finds rows that were damaged)"))
        print_line(
            "a copy into a store that is locked by the running bot: stop the bot for it, or let the bot write "
            "the key again"
        )


def _copies(found: dict[str, Any]) -> list[str]:
    """Return what brings over the rows that the follower of a kind lacks, a command for each direction."""
    first, second = found["stores"]
    others = {first: second, second: first}
    differing: dict[str, list[str]] = {}
    for one in found["kinds"]:
        if one["ok"]:
            continue
        differing.setdefault(one["leader"], []).append(one["kind"])
        if 0 < one["share"] < 100:  # the other store leads some of the keys
            differing.setdefault(others[one["leader"]], []).append(one["kind"])
    return [
        f"{copy_command((leader, others[leader]), kinds)}   (brings over what is missing or older)"
        for leader, kinds in differing.items()
    ]
