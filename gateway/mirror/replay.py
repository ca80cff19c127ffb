"""Replaying some intents: read the rows again from the primary, write them to the mirror."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.backend import Capability, Step, WriteBatch
from gateway.columns import by_column
from gateway.errors import GatewayError, StoreError
from gateway.intents import Intent, Stretch
from gateway.lanes.persistent import apart
from gateway.mirror.contract import Pair
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.telemetry import background, pair_attributes

__all__ = ["Number", "Page", "Replayed", "onward", "page_of", "replay"]

_LAST: Final = 2**63 - 1

Number = tuple[str, int]
"""An owner and a number: what is acknowledged, with all its parts."""


class Page(NamedTuple):
    """Some intents of a journal.

    Attributes:
        intents: In the journal's order, each number with all its parts.
        last: Where to go on; None at the end.
    """

    intents: Sequence[Intent]
    last: Stretch | None


class Replayed(NamedTuple):
    """What became of some intents.

    Attributes:
        written: How many rows the mirror was given.
        refused: The numbers of rows that the mirror refuses, each with the row and the mirror's error.
        missing: Numbers whose row the primary does not have, where it may still come.
    """

    written: int
    refused: dict[Number, tuple[Row, GatewayError]]
    missing: set[Number]


async def page_of(pair: Pair, limit: int, after: Stretch | None) -> Page:
    """Return intents that come after a stretch, in all about as many as asked for.

    Numbers are acknowledged as a whole, so no page ends in the middle of one. For the same reason the journal is not
    asked for those before a version: of one number it might leave out a part.

    Raises:
        StoreError: The journal could not answer.
    """
    while True:
        found = await pair.journal.pending(pair.target, pair.tenant, limit, after=after)
        if len(found) < limit:
            return Page(found, None)
        owner, number = found[-1].owner, found[-1].number
        whole = len(found)
        while whole and (found[whole - 1].owner, found[whole - 1].number) == (owner, number):
            whole -= 1
        if whole:
            last = found[whole - 1]
            return Page(found[:whole], Stretch(last.owner, last.number, last.number))
        limit *= 2


def onward(page: Page, before: int | None) -> Stretch | None:
    """Return where to go on after a page, None at the end.

    Behind a whole page that an owner wrote too late for this round is what it wrote later still. While bots write
    faster than pages are read, that has no end, and what is due again at the journal's start would wait for it.

    Args:
        page: What was read.
        before: The version before which intents are due in this round; None where all are.
    """
    if page.last is None or before is None:
        return page.last
    owner = page.last.owner
    if all(one.owner == owner and one.version >= before for one in page.intents):
        return Stretch(owner, page.last.first, _LAST)
    return page.last


async def replay(pair: Pair, intents: Sequence[Intent]) -> Replayed:
    """Bring the rows of some intents to the mirror, as they are by now. The circuit learns how that went.

    Where intents are written in the row's own transaction, a row that the primary does not have was removed for good,
    and its intent is done. Where they are written before the row, it may still come.

    Raises:
        StoreError: The primary or the mirror could not do it; nothing counts as done.
    """
    described = pair_attributes(pair.primary.name, pair.target, len(intents))
    with background("gateway.mirror.replay", described, (intent.trace for intent in intents)):
        return await _replay(pair, intents)


async def _replay(pair: Pair, intents: Sequence[Intent]) -> Replayed:
    wanted: dict[KindSpec, dict[Key, list[Intent]]] = {}
    for intent in intents:
        wanted.setdefault(intent.kind, {}).setdefault(intent.key, []).append(intent)
    found = await asyncio.gather(
        *(pair.primary.get(kind, pair.tenant, tuple(keys)) for kind, keys in wanted.items())
    )
    missing: set[Number] = set()
    refused: dict[Number, tuple[Row, GatewayError]] = {}
    written = 0
    for keys, rows in zip(wanted.values(), found, strict=True):
        if not pair.transactional:
            missing |= _missing(keys, rows)
        there = [row for row in rows if row is not None]
        refusals = await _write(pair, there) if there else {}
        written += len(there) - len(refusals)
        for at, error in refusals.items():
            row = there[at]
            refused.update(((one.owner, one.number), (row, error)) for one in keys[row.key])
    return Replayed(written, refused, missing)


def _missing(keys: dict[Key, list[Intent]], rows: Sequence[Row | None]) -> set[Number]:
    return {
        (one.owner, one.number)
        for row, intents in zip(rows, keys.values(), strict=True)
        for one in intents
        if row is None or row.version < one.version
    }


async def _write(pair: Pair, rows: Sequence[Row]) -> dict[int, GatewayError]:
    async def write(part: Sequence[Step]) -> None:
        await pair.sink.write(WriteBatch(part))

    steps = by_column(rows) if Capability.COLUMNS in pair.sink.capabilities else rows
    try:
        refused = await apart(write, steps)
    except StoreError as error:
        pair.circuit.failed(error)
        raise
    pair.circuit.succeeded()
    return refused
