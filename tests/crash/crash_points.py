"""Failpoints: named places of the write path where a bot kills itself, planted from outside of what is tested."""

from __future__ import annotations

import functools
import inspect
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

__all__ = ["POINTS", "Point", "place_of", "plant"]


@dataclass(frozen=True, slots=True)
class Point:
    """A place in the write path.

    Attributes:
        name: What tests call it.
        module: Where the function is looked up when it is called.
        attribute: Its name there, a method with its class.
        after: Whether the process dies when the function has returned, not when it is called.
        pairs: The stores on which the place is passed. The first is always tried, the others by the soak tests.
        most: Up to how many times the place is passed before the one that kills.
        ends: Whether it is passed only when the bot closes its gateway.
        relayed: Whether much has to be left to the relay for it to be passed.
        alone: Whether it is passed only by a bot of one task.
    """

    name: str
    module: str
    attribute: str
    after: bool
    pairs: tuple[str, ...]
    most: int = 20
    ends: bool = False
    relayed: bool = False
    alone: bool = False


SQLITE: Final = ("sqlite,postgres",)
POSTGRES: Final = ("postgres,questdb",)
JSON: Final = ("json,sqlite",)
LOCAL: Final = ("json,sqlite", "questdb,postgres")
ALL: Final = ("sqlite,postgres", "json,sqlite", "postgres,questdb")


def _both(name: str, module: str, attribute: str, pairs: tuple[str, ...], **more: Any) -> tuple[Point, Point]:
    """Return the places before and after a function."""
    return (
        Point(f"before {name}", module, attribute, False, pairs, **more),
        Point(f"after {name}", module, attribute, True, pairs, **more),
    )


def _points() -> tuple[Point, ...]:
    mirror = "gateway.mirror"
    both, relayed, ends = _both, {"relayed": True, "most": 6}, {"ends": True, "most": 1}
    return (
        # The commit on the store that leads.
        *both("the commit", "gateway.lanes.lane", "Lane._write", ALL, most=60),
        *both("sqlite notes one intent", "gateway_sqlite.writer", "note_one", SQLITE, alone=True),
        *both("sqlite notes intents", "gateway_sqlite.writer", "note", SQLITE),
        *both("the transaction of sqlite", "gateway_sqlite.backend", "apply", SQLITE, most=60),
        *both("postgres notes intents", "gateway_postgres.writing", "note", POSTGRES),
        *both("the statement of postgres", "gateway_postgres.writing", "_store_at_once", POSTGRES, alone=True),
        *both("the update of postgres", "gateway_postgres.writing", "_store_updates", POSTGRES, most=10),
        # The local journal, and the files beside it.
        *both("the local journal", "gateway.journal.local", "LocalJournal.note", LOCAL, most=20),
        *both("the journal of an update", "gateway.journal.local", "LocalJournal.note_now", JSON, most=20),
        *both("the journal's transaction", "gateway.journal.file", "_transaction", JSON, most=40),
        *both("the journaled store", "gateway.journal.sink", "JournaledStore.write", LOCAL, most=20),
        *both("the step in json's pending file", "gateway_json.pending", "Pending.write", JSON),
        *both("the end of json's pending step", "gateway_json.pending", "Pending.remove", JSON),
        *both("an append of json", "gateway_json.files", "Disk.append", JSON, most=60),
        *both("a file of json", "gateway_json.files", "Disk.publish", JSON, most=60),
        # The feed.
        *both("the offer", f"{mirror}.feed", "Feed.offer", ALL, most=60),
        *both("the mirror write", f"{mirror}.feed", "Feed._send", ALL, most=6),
        *both("the feed's note", f"{mirror}.feed", "Feed._succeed", ALL, most=6),
        *both("acknowledging", "gateway.dispatch", "Store.acknowledge", ("sqlite,postgres", "postgres,questdb"), most=4),
        *both("acknowledging locally", "gateway.journal.local", "LocalJournal.acknowledge", LOCAL, most=4),
        *both("sqlite removes intents", "gateway_sqlite.backend", "remove", SQLITE, most=4),
        *both("postgres removes intents", "gateway_postgres.intents", "_portion", POSTGRES, most=4),
        # What a mirror does with a batch.
        *both("postgres as a mirror", "gateway_postgres.backend", "write", SQLITE, most=6),
        *both("sqlite as a mirror", "gateway_sqlite.backend", "apply", JSON, most=6),
        *both("a group of questdb", "gateway_questdb.groups", "Groups.begin", POSTGRES, most=4),
        *both("the rows of questdb", "gateway_questdb.writing", "Writer._store", POSTGRES, most=6),
        # The relay.
        *both("the lease", f"{mirror}.lease", "Lease.claim", ALL, **relayed),
        *both("the relay's page", f"{mirror}.relay", "page_of", ALL, **relayed),
        *both("the replay", f"{mirror}.relay", "replay", ALL, **relayed),
        *both("the relay's mirror write", f"{mirror}.replay", "_write", ALL, **relayed),
        *both("the relay's acknowledging", f"{mirror}.relay", "Relay._acknowledge", ALL, **relayed),
        # Buffered rows.
        *both("the buffer", "gateway.buffer", "Buffer._write_some", ALL, most=4),
        # Opening and closing.
        *both("the mirrors' start", f"{mirror}.facade", "Mirrors.start", ALL, most=1),
        *both("closing", "gateway.gateway", "Gateway.close", ALL, **ends),
        *both("closing the buffer", "gateway.buffer", "Buffer.close", ALL, **ends),
        *both("closing the lanes", "gateway.engine.engine", "close_lanes", ALL, **ends),
        *both("closing the mirrors", f"{mirror}.facade", "Mirrors.close", ALL, **ends),
        *both("closing a feed", f"{mirror}.feed", "Feed.aclose", ALL, ends=True, most=2),
        *both("the last acknowledging", f"{mirror}.acknowledging", "Acknowledger.aclose", ALL, ends=True, most=2),
        *both("giving the lease back", f"{mirror}.lease", "Lease.release", ALL, ends=True, most=2),
        *both("closing the journal", "gateway.journal.file", "JournalFile.close", JSON, **ends),
        *both("closing the stores", "gateway.dispatch", "StoreSet.close", ALL, **ends),
    )  # fmt: skip


POINTS: Final = {point.name: point for point in _points()}


def place_of(point: Point) -> tuple[Any, str, Callable[..., Any]]:
    """Return the module or class where a point's function is, its name there, and itself.

    Raises:
        AttributeError: There is no such function.
    """
    owner: Any = import_module(point.module)
    *path, name = point.attribute.split(".")
    for part in path:
        owner = getattr(owner, part)
    return owner, name, getattr(owner, name)


def plant(point: Point, nth: int, farewell: Callable[[str], None]) -> None:
    """Let this process kill itself when it comes to a place for the n-th time.

    Args:
        point: The place.
        nth: The first time is 1.
        farewell: Is told that it happens, right before.
    """
    owner, name, function = place_of(point)
    passed, turn = 0, threading.Lock()

    def pass_by() -> None:
        nonlocal passed
        with turn:
            passed += 1
            if passed == nth:
                farewell(f"dies {point.name}")
                os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, _wrapped(function, pass_by, after=point.after))


def _wrapped(function: Callable[..., Any], pass_by: Callable[[], None], *, after: bool) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def waiting(*args: Any, **kwargs: Any) -> Any:
            if not after:
                pass_by()
            answer = await function(*args, **kwargs)
            if after:
                pass_by()
            return answer

        return waiting

    @functools.wraps(function)
    def direct(*args: Any, **kwargs: Any) -> Any:
        if not after:
            pass_by()
        answer = function(*args, **kwargs)
        if after:
            pass_by()
        return answer

    return direct
