"""The other side of crash tests: starts bots, ends them, and looks at what the stores have afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from gateway import Gateway
from gateway.migration.verify import verify_kind
from gateway.query import Query, ReadRange
from gateway.records import KindSpec
from gateway.records.kind import Shape
from gateway.records.row import Row
from tests.crash.crash_bot import gateway_of
from tests.crash.crash_checks import problems
from tests.crash.crash_kinds import CRASH_KINDS, WORK_ORDERS
from tests.crash.crash_ledger import Ledger
from tests.mirrors import drained

__all__ = ["TASKS", "Life", "Nursery", "World", "differences", "left", "stored_in", "until"]

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 60.0
TASKS: Final = 16


class Nursery:
    """The process that forks bots."""

    def __init__(self) -> None:
        few = dict.fromkeys(
            ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1"
        )  # it must have no thread when it forks
        environ = {name: text for name, text in os.environ.items() if not name.startswith("STORAGE_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.crash_bot"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**environ, **few},
        )
        self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=PATIENCE)

    def ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Give an order and return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@dataclass
class Life:
    """One life of one bot.

    Attributes:
        nursery: Where it came from.
        pid: Its process.
        notes: The file of its notes, which is that of its former lives too.
        began: How long the file was when it was born.
    """

    nursery: Nursery
    pid: int
    notes: Path
    began: int

    def acked(self) -> int:
        """Return how many calls were acknowledged in this life so far."""
        with self.notes.open("rb") as file:
            file.seek(self.began)
            return file.read().count(b'["acked"')

    def kill(self) -> None:
        """End it with SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait until it has ended; return its exit code, negative for a signal."""
        return int(self.nursery.ask({"wait": self.pid})["code"])

    def running(self) -> bool:
        """Tell whether it has not ended yet."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"

    def reaches(self, calls: int) -> bool:
        """Wait until so many calls were acknowledged, or it has ended; tell which."""
        return until(lambda: self.acked() >= calls or not self.running()) and self.acked() >= calls


def until(done: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Wait until something holds; fail if it takes too long."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"it takes longer than {seconds} s"
        time.sleep(0.003)
    return True


@dataclass
class World:
    """Two stores and the bots that write to them.

    Attributes:
        nursery: Where bots come from.
        backends: The stores; the first leads.
        directory: Where the files are.
        environ: Where the servers are.
        seed: What bots do follows from it.
        settings: Of every gateway.
        computes: Whether the store that leads can read and write in one step.
    """

    nursery: Nursery
    backends: str
    directory: Path
    environ: dict[str, str]
    seed: str
    settings: dict[str, Any] = field(default_factory=dict)
    computes: bool = True
    lives: int = 0
    """How many lives there were so far."""

    def __post_init__(self) -> None:
        self.environ = {"STORAGE_TENANT": str(uuid.uuid4()), **self.environ}
        usual = {"buffer_seconds": 0.05, "buffer_rows": 20, "retry_seconds": 1.0, "timeout": 20.0}
        self.settings = {**usual, **self.settings}

    def _order(self, **more: Any) -> dict[str, Any]:
        return {
            "backends": self.backends,
            "directory": str(self.directory),
            "environ": self.environ,
            "settings": self.settings,
            "seed": self.seed,
            "computes": self.computes,
            "log": str(self.directory / "bots.log"),
            **more,
        }

    def live(
        self,
        *,
        bot: str = "a",
        calls: int = 1_000_000,
        pace: str = "quick",
        point: tuple[str, int] | None = None,
        tasks: int = TASKS,
        stays: bool = False,
        **settings: Any,
    ) -> Life:
        """Start a bot.

        Args:
            bot: Its name, the same in each of its lives.
            calls: After how many calls it closes its gateway and ends.
            pace: Of its mirrors, see `PACES`.
            point: Where it is to kill itself, and at which time.
            tasks: How many write at the same time.
            stays: Whether it keeps its gateway open after its last call, until it is killed.
            **settings: Of its gateway in this life.
        """
        self.lives += 1
        notes = self.directory / f"notes-{bot}.jsonl"
        notes.touch(0o600)
        began = notes.stat().st_size
        order = self._order(
            bot=bot,
            life=self.lives,
            notes=str(notes),
            calls=calls,
            pace=pace,
            point=point,
            tasks=tasks,
            stays=stays,
            most=120,
        )
        order["settings"] = {**self.settings, **settings}
        return Life(self.nursery, self.nursery.ask(order)["pid"], notes, began)

    @property
    def ledger(self) -> Ledger:
        """What all bots noted so far."""
        return Ledger.read(self.directory.glob("notes-*.jsonl"))

    @property
    def log(self) -> str:
        """What bots printed, and what went wrong with it."""
        path = self.directory / "bots.log"
        return path.read_text(errors="replace")[-3_000:] if path.exists() else ""

    @contextlib.asynccontextmanager
    async def opened(self, **settings: Any) -> AsyncIterator[Gateway]:
        """Open a gateway of this process on the stores."""
        order = self._order()
        order["settings"] = {**self.settings, **settings}
        async with gateway_of(order) as gateway:
            yield gateway

    async def check(self, *, deep: bool = False) -> Ledger:
        """Open the stores, let the mirror get what it lacks, and make sure of everything that must hold."""
        ledger = self.ledger
        async with self.opened() as gateway:
            await drained(gateway)
            found = problems(ledger, await stored_in(gateway))
            found += await differences(gateway, deep=deep) + await left(gateway, gateway.engine.stores)
        assert not found, f"seed {self.seed}, {len(found)} problems:\n" + "\n".join(found[:20])
        return ledger


async def _rows(gateway: Gateway, kind: KindSpec) -> list[Row]:
    query = Query(kind, gateway.engine.stamper.tenant, limit=5_000)
    return [row async for page in gateway.engine.pages(query) for row in page]


async def stored_in(gateway: Gateway) -> dict[str, Sequence[Row]]:
    """Return the live rows of every kind, on the store that leads for it."""
    return {kind.name: await _rows(gateway, kind) for kind in CRASH_KINDS if not kind.local}


async def differences(gateway: Gateway, *, deep: bool = False) -> list[str]:
    """Return what the two stores do not have alike."""
    engine, tenant = gateway.engine, gateway.engine.stamper.tenant
    stores, found = engine.stores, list[str]()
    for kind in CRASH_KINDS:
        route = engine.plan.listing(kind)
        if kind.local or (not route.mirrors and kind.shape is not Shape.QUEUE):
            continue
        digests = {name: await store.digest(ReadRange(kind, tenant)) for name, store in stores.items()}
        if kind is WORK_ORDERS:
            found += [
                f"{name} has {kind.name}"
                for name, one in digests.items()
                if one.rows and name != route.primary
            ]
            continue
        first, second = stores[route.primary], stores[route.mirrors[0]]
        if digests[first.name] != digests[second.name]:
            report = await verify_kind(first, second, kind, tenant)
            found.append(f"{kind.name} differs: {digests}; {report.differing[:5]}")
        elif deep:
            report = await verify_kind(first, second, kind, tenant, deep=True)
            found += [f"{kind.name} is damaged: {report.differing[:5]}"] if not report.ok else []
    return found


async def left(gateway: Gateway, names: Iterable[str]) -> list[str]:
    """Return what is left in the journals of some stores."""
    found, mirrors, tenant = list[str](), gateway.engine.mirrors, gateway.engine.stamper.tenant
    assert mirrors is not None
    for name in names:
        facts = await mirrors.home(name).journal.facts(tenant, 1_000)  # type: ignore[attr-defined] # as `Mirrors` has it
        found += [f"the journal of {name} has {one}" for one in facts if one.depth]
    return found
