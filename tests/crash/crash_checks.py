"""What must hold after any crash, of what bots noted and what the store that leads has. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from gateway.records.row import Row
from tests.crash.crash_ledger import Entry, Key, Ledger, number_of
from tests.crash.crash_work import CLOSED, DAY, PLAIN_DAY

__all__ = ["Stored", "problems"]

Stored = Mapping[str, Sequence[Row]]
"""The live rows of each kind."""

Said = Callable[[dict[str, Any]], Any]

TAGS: Final[dict[str, Said]] = {
    "trades": lambda held: held["order_id"],
    "events": lambda held: held["data"]["name"],
    "alerts": lambda held: held["details"]["name"],
    "trade_decisions": lambda held: held["reason"],
    "tick_prices": lambda held: held["session_id"],
    "order_book_snapshots": lambda held: held["condition_id"],
}
"""Which call wrote a row of a log."""

SAYS: Final[dict[str, Said]] = {
    "positions": lambda held: held["market_name"] if held["is_open"] else f"{CLOSED}{held['close_reason']}",
    "candles": lambda held: str(int(held["volume"])),
    "bot_state": lambda held: held["data"]["name"],
    "work_orders": lambda held: held["task"],
}
"""What a state says: the value of the call that wrote it."""

PLACES: Final[dict[str, Said]] = {
    "positions": lambda held: ("positions", held["condition_id"]),
    "candles": lambda held: ("candles", held["symbol"]),
    "bot_state": lambda held: ("bot_state", held["bot_id"], held["name"]),
    "work_orders": lambda held: ("work_orders", held["order_id"]),
}
"""The key of a state as calls name it."""

NUMBERS: Final = {"trades": "amount", "tick_prices": "volume"}
"""A field of some logs that says the number of the call."""


def problems(ledger: Ledger, stored: Stored) -> list[str]:
    """Return what is wrong: acknowledged and not there, there and never written, or there twice."""
    found = list(ledger.wrongs)
    found += _logs(ledger, stored)
    found += _states(ledger, stored)
    found += _series(ledger, stored)
    found += _closed(ledger, stored)
    found += _totals(ledger, stored)
    return found


def _records(stored: Stored, kind: str) -> Iterator[tuple[Row, dict[str, Any]]]:
    for row in stored.get(kind, ()):
        yield row, dict(row.record())


def _logs(ledger: Ledger, stored: Stored) -> Iterator[str]:
    """Every acknowledged row is there once, with its values; none is there that nobody wrote, or twice."""
    gone = {entry.key: entry for entry in ledger.of("gone")}
    wanted = {entry.key: entry for entry in ledger.of("log")}
    for kind, tag_of in TAGS.items():
        tags: Counter[str] = Counter()
        for _, held in _records(stored, kind):
            tag = tag_of(held)
            tags[tag] += 1
            if kind in NUMBERS and int(held[NUMBERS[kind]]) != number_of(tag):
                yield f"{kind}: a row of {tag} has another number: {held}"
        for tag in tags.keys() - {key[1] for key in wanted if key[0] == kind}:
            yield f"{kind}: {tags[tag]} rows of {tag}, which nobody wrote"
        for key, entry in wanted.items():
            if key[0] == kind:
                yield from _amount(entry, tags[key[1]], gone.get(key))


def _amount(entry: Entry, rows: int, deletion: Entry | None) -> Iterator[str]:
    if deletion is not None and deletion.acked:
        allowed = {0}
    elif entry.acked and deletion is None:
        allowed = {entry.value}
    else:
        allowed = set(range(entry.value + 1))
    if rows not in allowed:
        yield f"{entry}: {rows} rows" + (f", deleted by {deletion}" if deletion else "")


def _allowed(entries: Sequence[Entry]) -> set[str | None]:
    """Return what the state of a key may say that one task wrote, call after call."""
    acked = [at for at, entry in enumerate(entries) if entry.acked]
    later = {entry.value for entry in entries[acked[-1] if acked else 0 :]}
    return later if acked else later | {None}


def _by_key(entries: Iterable[Entry]) -> dict[Key, list[Entry]]:
    found: dict[Key, list[Entry]] = defaultdict(list)
    for entry in entries:
        found[entry.key].append(entry)
    return found


def _states(ledger: Ledger, stored: Stored) -> Iterator[str]:
    """Each key has the value of the last acknowledged call about it, or of one that came after."""
    held: dict[Key, tuple[int, str]] = {}
    for kind, says in SAYS.items():
        for row, record in _records(stored, kind):
            place = PLACES[kind](record)
            if place in held:
                yield f"{place} is there twice"
            held[place] = row.version, says(record)
    calls = _by_key(ledger.of("own", "shared"))
    for place in held.keys() - calls.keys():
        yield f"{place}, which nobody wrote"
    for place, entries in calls.items():
        if place[0] == "indicator_series":
            continue
        version, said = held.get(place, (0, None))
        if entries[0].what == "own":
            allowed = _allowed(entries)
        else:
            acked = any(entry.acked for entry in entries)
            allowed = {entry.value for entry in entries} | (set() if acked else {None})
        if said not in allowed:
            yield f"{place} says {said!r}, and may say {sorted(map(str, allowed))[:5]}; {entries[-3:]}"
        yield from _versions(place, version, said, entries)


def _versions(place: Key, version: int, said: str | None, entries: Sequence[Entry]) -> Iterator[str]:
    told = {entry.version: entry for entry in entries if entry.version is not None}
    last = max(told, default=0)
    if said is not None and version < last:
        yield f"{place} is of version {version}, and {told[last]} was acknowledged"
    if said is None and any(entry.what == "shared" and entry.acked for entry in entries):
        yield f"{place} is not there, and {told[last]} was acknowledged"
    if version in told and said != told[version].value:
        yield f"{place} says {said!r} at the version of {told[version]}"


def _series(ledger: Ledger, stored: Stored) -> Iterator[str]:
    """Of an overwritten series all values of one call count: the last acknowledged one's, or a later one's."""
    current = {held["session_id"]: held["generation"] for _, held in _records(stored, "indicator_series")}
    values: dict[tuple[str, str], list[str]] = defaultdict(list)
    for _, held in _records(stored, "indicators"):
        values[held["session_id"], held["generation"]].append(held["metadata"]["name"])
        if held["value"] != number_of(held["metadata"]["name"]):
            yield f"indicators: another number: {held}"
    for key, entries in _by_key(ledger.of("own")).items():
        if key[0] != "indicator_series":
            continue
        generation = current.pop(key[1], None)
        names = values[key[1], generation] if generation is not None else [None] * 4
        if len(names) != 4 or len(set(names)) != 1 or names[0] not in _allowed(entries):
            yield f"the series {key[1]} has values of {names}; {entries[-3:]}"
    for session in current:
        yield f"the series {session}, which nobody wrote"


def _closed(ledger: Ledger, stored: Stored) -> Iterator[str]:
    """Each position that was closed has one copy in the history, whatever happened in between."""
    copies = Counter(held["close_reason"] for _, held in _records(stored, "closed_positions"))
    calls = {
        str(entry.value).removeprefix(CLOSED): entry
        for entry in ledger.of("own")
        if str(entry.value).startswith(CLOSED)
    }
    for name in copies.keys() - calls.keys():
        yield f"closed_positions: a copy of {name}, which nobody closed"
    for name, entry in calls.items():
        if copies[name] != 1 and (entry.acked or copies[name]):
            yield f"{entry} has {copies[name]} copies in the history"
    for _, held in _records(stored, "positions"):
        if not held["is_open"] and copies[held["close_reason"]] != 1:
            yield f"{held['condition_id']} is closed by {held['close_reason']}, of which the history has nothing"


def _totals(ledger: Ledger, stored: Stored) -> Iterator[str]:
    """The day's totals are the sum of the operations that were applied, those that were acknowledged among them."""
    applied: dict[str, set[str]] = defaultdict(set)
    for _, held in _records(stored, "operations"):
        applied[held["key"]].add(held["operation_id"])
    totals = {held["date"]: held for _, held in _records(stored, "daily_stats")}
    deltas = {entry.name: entry for entry in ledger.of("delta")}
    for entry in deltas.values():
        if entry.acked and entry.name not in applied[DAY]:
            yield f"{entry} is not among the operations applied"
    for name in applied[DAY] - deltas.keys():
        yield f"the operation {name} was applied, which nobody asked for"
    if (DAY in totals) != bool(applied[DAY]):
        yield f"{DAY}: {totals.get(DAY)} and {len(applied[DAY])} operations"
    elif DAY in totals:
        trades = sum(number_of(name) for name in applied[DAY])
        pnl = sum(Decimal(f"{number_of(name)}.01") for name in applied[DAY])
        if (totals[DAY]["total_trades"], totals[DAY]["current_pnl"]) != (trades, pnl):
            yield f"{DAY}: {totals[DAY]}, and the operations come to {trades} and {pnl}"
    plain = list(ledger.of("plain"))
    count = totals[PLAIN_DAY]["total_trades"] if PLAIN_DAY in totals else 0
    if not sum(entry.acked for entry in plain) <= count == len(applied[PLAIN_DAY]) <= len(plain):
        yield f"{PLAIN_DAY}: {count} of {len(plain)} calls, {len(applied[PLAIN_DAY])} operations"
