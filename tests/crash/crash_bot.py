"""Bots that can be killed: `python -m tests.crash.crash_bot` waits for orders and forks a bot for each.

A bot is a process of its own, forked from one that has imported everything and opened nothing, so that it lives a few
milliseconds after it was asked for. Orders and answers are lines of JSON on standard input and output.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import gateway.gateway
from gateway import Gateway, StoreError
from gateway.mirror.contract import FeedOptions, RelayOptions
from tests.crash.crash_kinds import WorkOrders
from tests.crash.crash_ledger import Notes
from tests.crash.crash_points import POINTS, plant
from tests.crash.crash_work import Worker

__all__ = ["OPENING", "PACES", "gateway_of", "main"]

NEEDED: Final = (
    "alembic.command",
    "gateway_json.store",
    "gateway_postgres.backend",
    "gateway_questdb.backend",
    "gateway_sqlite.backend",
)
"""What bots need beside the gateway, imported before there is one."""

OPTIONS: Final = "MirrorOptions"
"""What the gateway calls the bounds and paces of its mirrors."""

OPENING: Final = 60.0
"""Seconds for which a bot tries to open stores that are away."""

PACES: Final[dict[str, dict[str, Any]]] = {
    "usual": {},
    "quick": {
        "look": 0.2,
        "feed": FeedOptions(done=50, done_seconds=0.02),
        "relay": RelayOptions(poll=0.1, grace=0.3, batch=50),
    },
    # While the feed lingers over its first rows, whatever else is written is left to the relay.
    "relayed": {
        "look": 0.2,
        "feed": FeedOptions(rows=2, linger=0.05, done=4, done_seconds=0.02),
        "relay": RelayOptions(poll=0.02, grace=0.05, batch=4, parallel=2),
    },
}
"""Bounds and paces of mirrors."""


def gateway_of(order: dict[str, Any]) -> Gateway:
    """Return the gateway of an order, not open yet."""
    return Gateway(
        order["backends"],
        data_dir=Path(order["directory"]),
        environ=order["environ"],
        env_file=None,
        plugins=[WorkOrders()],
        **order["settings"],
    )


async def _live(order: dict[str, Any]) -> None:
    notes = Notes(Path(order["notes"]))
    pace = PACES[order["pace"]]
    setattr(gateway.gateway, OPTIONS, functools.partial(getattr(gateway.gateway, OPTIONS), **pace))
    if order["point"] is not None:
        name, nth = order["point"]
        plant(POINTS[name], nth, notes.told)
    opened = gateway_of(order)
    await _open(opened)
    notes.told("opened")
    left: int = order["calls"]

    def more() -> bool:
        nonlocal left
        left -= 1
        return left >= 0

    try:
        workers = [
            Worker(opened, notes, f"{order['bot']}.{order['life']}.{task}", f"{order['bot']}-{task}", order["seed"],
                   computes=order["computes"])
            for task in range(order["tasks"])
        ]  # fmt: skip
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker.work(more))
        if order["stays"]:
            await asyncio.Event().wait()
    finally:
        await opened.close()
    notes.told("closed")


async def _open(opened: Gateway) -> None:
    end = asyncio.get_running_loop().time() + OPENING
    while True:
        try:
            await opened.open()
        except StoreError:
            if asyncio.get_running_loop().time() > end:
                raise
            await asyncio.sleep(0.05)
        else:
            return


def _be_a_bot(order: dict[str, Any]) -> None:
    """Live, and end this process."""
    code = 1
    try:
        signal.alarm(order["most"])  # should the test be gone that would have killed it
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for stream, fd in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
            os.dup2(fd, stream)
        asyncio.run(_live(order))
        code = 0
    except BaseException:  # noqa: BLE001 - it is printed, and the test looks at the exit code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Follow orders until there are no more: `{"wait": pid}` is answered with the exit code, any other with a pid."""
    for name in NEEDED:
        import_module(name)
    children: set[int] = set()
    answer: Callable[[dict[str, Any]], None] = lambda given: print(json.dumps(given), flush=True)  # noqa: E731, T201 - a line each
    answer({"ready": os.getpid()})
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            pid = order["wait"]
            children.discard(pid)
            answer({"code": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])})
            continue
        pid = os.fork()
        if pid == 0:
            _be_a_bot(order)
        children.add(pid)
        answer({"pid": pid})
    for pid in children:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
