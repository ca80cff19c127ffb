"""Flips: what has to have arrived before another store leads, while the bot runs or when it starts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from typing import Final

from gateway.engine.paths import Paths
from gateway.errors import MirrorBehindError, StoreError
from gateway.lanes.lane import Lane
from gateway.mirror.contract import Mirroring

__all__ = ["arrive", "hand_over"]

_log: Final = logging.getLogger(__name__)


async def hand_over(
    moved: Iterable[tuple[str, str]],
    paths: Paths,
    lanes: Collection[Lane],
    mirrors: Mirroring,
    latest: Callable[[], int],
    *,
    backlog: float,
    waiting: float,
) -> None:
    """Return once the stores that are to lead have everything that those which lead now have committed.

    At first nobody notices: the backlog is handed over while the callers go on as before. Only then do they wait for
    their mirrors, for as long as the last rows need, so that nothing new is left behind. When this returns they still
    do; when it raises they no longer do.

    Args:
        moved: From which store to which other the lead passes.
        paths: The paths of the plan in force.
        lanes: All lanes.
        mirrors: Knows what is left.
        latest: Returns the newest version so far.
        backlog: Seconds for the backlog.
        waiting: Seconds for which callers may wait for a mirror.

    Raises:
        MirrorBehindError: It takes longer; the message says where.
        StoreError: A journal cannot answer.
    """
    pairs = sorted(moved)
    await _drained(pairs, mirrors, latest() + 1, backlog)
    paths.wait_for_mirrors(True)
    ready = False
    try:
        async with asyncio.timeout(waiting):
            for lane in lanes:
                await lane.barrier()
            await _drained(pairs, mirrors, latest() + 1, waiting)
        ready = True
    except TimeoutError:
        raise MirrorBehindError(_behind(pairs)) from None
    finally:
        if not ready:
            paths.wait_for_mirrors(False)
            for lane in lanes:
                lane.wait_no_longer()


async def arrive(
    leaders: Iterable[str], names: Iterable[str], mirrors: Mirroring, before: int, seconds: float
) -> None:
    """Wait, at the start, until stores that lead have what other ones have noted for them.

    A bot that was stopped or killed may have left that behind, and may begin in another phase. What still lacks after
    this time is brought while the bot runs, and said loudly: a row that the leading store refuses would keep the bot
    from ever starting.

    Args:
        leaders: The stores that lead.
        names: All stores.
        mirrors: Knows what is left.
        before: Only what has a smaller version.
        seconds: For how long.
    """
    pairs = [(name, leader) for leader in sorted(set(leaders)) for name in names if name != leader]
    for primary, mirror in pairs:
        try:
            arrived = await mirrors.drained(primary, mirror, before, seconds)
        except StoreError as error:
            _log.warning("%s leads; whether it lacks writes of %s is not known: %s", mirror, primary, error)
            continue
        if not arrived:
            _log.error(
                "%s leads, but it may lack writes of %s, which reads do not see until they are handed over; see "
                "`gateway mirror status`",
                mirror,
                primary,
            )


async def _drained(pairs: Iterable[tuple[str, str]], mirrors: Mirroring, before: int, seconds: float) -> None:
    for primary, mirror in pairs:
        if not await mirrors.drained(primary, mirror, before, seconds):
            raise MirrorBehindError(_behind([(primary, mirror)]))


def _behind(pairs: Iterable[tuple[str, str]]) -> str:
    names = ", ".join(f"{mirror} lacks writes of {primary}" for primary, mirror in pairs)
    return (
        f"another store was to lead, but {names}; the old one goes on leading. See `gateway mirror status`, and "
        "`gateway mirror drain` to bring the mirror up to date; it is tried again by itself"
    )
