"""What the facts of a server mean: findings with advice. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from gateway.findings import Finding, fail, ok, warn
from gateway_postgres.facts import Activity, Login, PartitionFacts, TableFacts, Upkeep
from gateway_postgres.health import OLDEST
from gateway_postgres.profiles import PoolSize
from gateway_postgres.vacuum import to_analyze, to_vacuum, worn

__all__ = ["judge_login", "judge_upkeep"]

SLOW_SECONDS: Final = 0.5
"""A connection that takes longer to open is felt by every bot that starts or reconnects."""
SKEW_SECONDS: Final = 5.0
"""Versions come from the bots' clocks; a server that disagrees this much points at a wrong clock."""
CROWDED: Final = 0.8
"""Share of the allowed connections from which a further process may find none."""
LAG_SECONDS: Final = 60.0
LAG_BYTES: Final = 256 * 1024**2
SLOT_BYTES: Final = 1024**3
"""What an inactive slot may hold back before it is worth a word; it grows until the disk is full."""
LONG_SECONDS: Final = 600.0
IDLE_SECONDS: Final = 60.0
"""How long a transaction may be open, at work and idle. It keeps the server from cleaning up anything newer."""
OLD_IDS: Final = 500_000_000
"""Autovacuum begins to freeze at 200 million; so far behind, it does not keep up."""
WORN_OUT: Final = 1_500_000_000
"""At two thousand million the server stops to take writes."""
NEXT: Final = timedelta(days=7)
"""How long the partitions should at least still reach."""
_LARGEST: Final = 3
_NAMED: Final = 5


def judge_login(subject: str, login: Login, size: PoolSize, *, production: bool) -> list[Finding]:
    """Return what the bot's own login and its server are worth.

    Args:
        subject: What the findings are about.
        login: What is known.
        size: Connections that one process takes.
        production: Whether it must be safe.
    """
    return [
        _reach(subject, login),
        _version(subject, login),
        _role(subject, login, production),
        _owner(subject, login),
        _encryption(subject, login),
        _pooler(subject, login, size),
        *_server(subject, login),
    ]


def _reach(subject: str, login: Login) -> Finding:
    sentence = f"a connection as {login.role} took {login.seconds * 1000:.0f} ms"
    if login.seconds > SLOW_SECONDS:
        return warn(
            f"{subject}: reachable", sentence, "look at the network and at DNS, or put a pooler near the bots"
        )
    return ok(f"{subject}: reachable", sentence)


def _version(subject: str, login: Login) -> Finding:
    if login.version_num < OLDEST:
        return fail(
            f"{subject}: version",
            f"PostgreSQL {login.version} is not supported",
            f"upgrade the server to {OLDEST // 10_000} or newer",
        )
    return ok(f"{subject}: version", f"PostgreSQL {login.version}")


def _role(subject: str, login: Login, production: bool) -> Finding:
    name = f"{subject}: role"
    if login.superuser or login.bypasses:
        what = "is a superuser" if login.superuser else "has BYPASSRLS"
        found = fail if production else warn
        return found(
            name,
            f"{login.role} {what}, so nothing keeps tenants apart",
            "let the bot log in as a member of the application's role; `gateway schema roles` shows the statements",
        )
    if login.groups is None:
        return warn(
            name,
            f"{login.role} is bound by row security; the group roles do not exist",
            "let a DBA run `gateway schema roles`, and then `gateway schema upgrade`",
        )
    if "admin" in login.groups:
        return warn(
            name,
            f"{login.role} is a member of the admin role and sees the rows of all tenants",
            "give the bot a login of its own, and this one to STORAGE_POSTGRES_ADMIN_URL",
        )
    shown = ", ".join(sorted(login.groups)) or "none"
    return ok(name, f"{login.role} is bound by row security; member of: {shown}")


def _owner(subject: str, login: Login) -> Finding:
    if login.owner and not login.superuser:
        return warn(
            f"{subject}: owner",
            f"{login.role} owns the tables, so whoever has its password can switch row security off",
            "let the bot log in as a member of the application's role, and the owner be STORAGE_POSTGRES_ADMIN_URL",
        )
    return ok(f"{subject}: owner", "the tables belong to another role" if not login.owner else "a superuser")


def _encryption(subject: str, login: Login) -> Finding:
    name = f"{subject}: TLS"
    if login.tls:
        return ok(name, "the connection is encrypted")
    if login.local:
        return ok(name, "the connection is not encrypted and stays on one machine")
    if login.tls is None:
        return ok(name, "whether the connection is encrypted is not to be seen from here")
    return warn(
        name,
        "the connection to the server is not encrypted",
        "set STORAGE_POSTGRES_TLS=verify-full; behind a pooler, encrypt its connection too",
    )


def _pooler(subject: str, login: Login, size: PoolSize) -> Finding:
    most = size.most
    place = "behind a pooler" if login.pooled else "straight to the server"
    sentence = f"{place}; each process takes up to {most} connections"
    if login.limit is None or login.pooled:
        return ok(f"{subject}: pool", sentence)
    sentence = f"{sentence}, of {login.limit} that CONNECTION LIMIT leaves to all of them"
    if login.limit < most:
        return warn(
            f"{subject}: pool",
            sentence,
            "make the pool smaller (STORAGE_POSTGRES_POOL_SIZE, STORAGE_POSTGRES_MAX_OVERFLOW), or raise the limit",
        )
    return ok(f"{subject}: pool", sentence)


def _server(subject: str, login: Login) -> Iterator[Finding]:
    if login.encoding != "UTF8":
        yield fail(
            f"{subject}: encoding",
            f"the database has the encoding {login.encoding}",
            "create it with ENCODING 'UTF8'; others cannot hold every text",
        )
    if login.standby:
        yield fail(
            f"{subject}: standby",
            "the server is a standby and takes no writes",
            "name the primary in the URL",
        )
    if login.unsafe:
        yield fail(
            f"{subject}: durability",
            f"the server has {', '.join(login.unsafe)} switched off: acknowledged writes are lost when it crashes",
            "switch it on",
        )
    if not login.autovacuum:
        yield fail(
            f"{subject}: autovacuum", "autovacuum is switched off: tables grow for ever", "switch it on"
        )
    if abs(login.skew) > SKEW_SECONDS:
        yield warn(
            f"{subject}: server's clock",
            f"it is {abs(login.skew):.0f} s {'ahead of' if login.skew > 0 else 'behind'} this machine's",
            "synchronise both",
        )
    if login.timescale is None:
        yield ok(f"{subject}: extensions", "no TimescaleDB; logs are partitioned by the server itself")
    else:
        version, licence = login.timescale
        lacking = (
            "; without compression and policies, which this licence leaves out" if licence == "apache" else ""
        )
        yield ok(f"{subject}: extensions", f"TimescaleDB {version}, licence {licence}{lacking}")


def judge_upkeep(subject: str, upkeep: Upkeep, size: PoolSize, now: datetime) -> list[Finding]:
    """Return what the state of the server and of the tables is worth.

    Args:
        subject: What the findings are about.
        upkeep: What is known.
        size: Connections that one process takes.
        now: Aware time.
    """
    return [
        *_connections(subject, upkeep, size),
        *_replication(subject, upkeep),
        *_transactions(subject, upkeep),
        *_ids(subject, upkeep),
        *_tables(subject, upkeep.tables),
        *_partitions(subject, upkeep.partitions, now),
    ]


def _connections(subject: str, upkeep: Upkeep, size: PoolSize) -> Iterator[Finding]:
    name = f"{subject}: connections"
    if upkeep.connections is None or upkeep.allowed is None:
        yield _unseen(name)
        return
    most = size.most
    room = max(0, upkeep.allowed - upkeep.connections) // most
    sentence = f"{upkeep.connections} of {upkeep.allowed} are in use; there is room for {room} more processes of {most}"
    if upkeep.connections > CROWDED * upkeep.allowed:
        yield warn(
            name,
            sentence,
            "make the pools smaller (STORAGE_POSTGRES_POOL_SIZE, STORAGE_POSTGRES_MAX_OVERFLOW), put PgBouncer in "
            "front, or raise max_connections; restarting bots helps for a moment only",
        )
    else:
        yield ok(name, sentence)


def _replication(subject: str, upkeep: Upkeep) -> Iterator[Finding]:
    name = f"{subject}: replication"
    if upkeep.replay_seconds is not None and upkeep.replay_seconds > LAG_SECONDS:
        yield warn(
            name,
            f"this standby replayed its last transaction {upkeep.replay_seconds:.0f} s ago",
            "if the primary is being written, look why the standby does not keep up",
        )
    for one in upkeep.followers or ():
        if one.bytes is None:
            yield ok(name, f"{one.name} follows; how far it is behind is for members of pg_monitor to see")
        elif one.bytes > LAG_BYTES or (one.seconds or 0) > LAG_SECONDS:
            yield warn(
                name,
                f"{one.name} is {_mib(one.bytes)} and {one.seconds or 0:.0f} s behind",
                "look at its network and its disk; after a failover these writes would be missing",
            )
        else:
            yield ok(name, f"{one.name} is {_mib(one.bytes)} behind")
    for slot in upkeep.slots or ():
        if not slot.active:
            sentence = (
                f"nobody reads the slot {slot.name}, for which the server keeps {_mib(slot.bytes)} of log"
            )
            advice = (
                f"drop it if its reader will not come back: SELECT pg_drop_replication_slot('{slot.name}')"
            )
            yield warn(name, sentence, advice) if slot.bytes > SLOT_BYTES else ok(name, sentence)
    if not (upkeep.followers or upkeep.slots or upkeep.replay_seconds):
        yield ok(name, "nobody follows this server")


def _transactions(subject: str, upkeep: Upkeep) -> Iterator[Finding]:
    name = f"{subject}: transactions"
    if upkeep.transactions is None or not upkeep.monitors:
        yield _unseen(name)
        return
    old = [one for one in upkeep.transactions if one.seconds > (IDLE_SECONDS if one.idle else LONG_SECONDS)]
    for one in old:
        yield warn(
            name, _described(one), f"end it if nobody misses it: SELECT pg_terminate_backend({one.pid})"
        )
    if not old:
        yield ok(name, "none is open for long")


def _described(one: Activity) -> str:
    who = " ".join(filter(None, (one.user, f"({one.application})" if one.application else "")))
    doing = "and is idle, which keeps" if one.idle else "; it keeps"
    return f"process {one.pid} of {who} has one open for {one.seconds:.0f} s {doing} old rows from being cleaned up"


def _ids(subject: str, upkeep: Upkeep) -> Iterator[Finding]:
    name = f"{subject}: transaction ids"
    if upkeep.frozen is None:
        yield _unseen(name)
        return
    sentence = f"the oldest in use is {upkeep.frozen:,} transactions old"
    advice = (
        "run VACUUM (FREEZE) as the owner, and look for old transactions and slots that hold autovacuum up"
    )
    if upkeep.frozen > WORN_OUT:
        yield fail(name, f"{sentence}; at 2,000,000,000 the server stops to take writes", advice)
    elif upkeep.frozen > OLD_IDS:
        yield warn(name, sentence, advice)
    else:
        yield ok(name, sentence)


def _tables(subject: str, tables: Sequence[TableFacts] | None) -> Iterator[Finding]:
    name = f"{subject}: tables"
    if tables is None:
        yield _unseen(name)
        return
    sizes: dict[str, int] = {}
    for one in tables:
        sizes[one.kind] = sizes.get(one.kind, 0) + one.bytes
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:_LARGEST]
    shown = ", ".join(f"{kind} {_mib(sizes[kind])}" for kind in largest)
    yield ok(
        name,
        f"{_mib(sum(sizes.values()))} in {len(tables)} tables and partitions; the largest: {shown or 'none'}",
    )
    dirty = worn(tables)
    for one in dirty[:_NAMED]:
        yield warn(
            f"{subject}: vacuum",
            f"{one.name} holds {one.dead:,} dead rows beside {one.live:,}; last cleaned up: {_when(one.vacuumed)}",
            "run `gateway maintain`; if it comes back, look for old transactions, or let autovacuum work harder",
        )
    stale = [one.name for one in to_analyze(tables)]
    if stale:
        yield warn(
            f"{subject}: analyse",
            f"the planner knows too little of {_few(stale)}",
            "run `gateway maintain`; the server does not analyse partitioned tables by itself",
        )
    if not dirty and not stale:
        due = len(to_vacuum(tables))
        yield ok(f"{subject}: vacuum", f"{due} tables are due" if due else "nothing is due")


def _partitions(
    subject: str, partitions: Sequence[PartitionFacts] | None, now: datetime
) -> Iterator[Finding]:
    name = f"{subject}: partitions"
    if partitions is None:
        yield _unseen(name)
        return
    late = [one.kind for one in partitions if one.until is None or one.until <= now]
    soon = [one for one in partitions if one.until is not None and now < one.until < now + NEXT]
    advice = "run `gateway maintain`; is a bot running, which does it once a day?"
    if late:
        yield fail(
            name, f"there is none for the present of {_few(late)}; rows go to the default partition", advice
        )
    if soon:
        shown = _few([f"{one.kind} ({one.until:%Y-%m-%d})" for one in soon])
        yield warn(name, f"they end soon: {shown}", advice)
    strays = [one for one in partitions if one.strays]
    if strays:
        shown = _few([f"{one.kind} (about {one.strays:,})" for one in strays])
        yield warn(
            name,
            f"rows lie in the default partition: {shown}",
            "run `gateway maintain`, which moves them to partitions of their time",
        )
    if partitions and not (late or soon or strays):
        until = min(one.until for one in partitions if one.until is not None)
        yield ok(name, f"they reach at least to {until:%Y-%m-%d}")


def _unseen(name: str) -> Finding:
    return ok(name, "not to be seen by this login; a member of pg_monitor may, in STORAGE_POSTGRES_ADMIN_URL")


def _few(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _when(moment: datetime | None) -> str:
    return "never" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
