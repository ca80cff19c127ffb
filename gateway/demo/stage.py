"""The stage: stores, bot, market and operator of one demo. Whatever happens on it is told as it happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.demo.ledger import Ledger
from gateway.demo.narrator import Narrator
from gateway.demo.processes import BotProcess, CommandLine, DemoError, storage_environ
from gateway.demo.proof import Evidence, prove_acknowledged, reading
from gateway.demo.status import BotStatus, Files
from gateway.migration.control import ControlStore

__all__ = ["FAST", "SHOW", "Pace", "Stage"]

T = TypeVar("T")

_LOOK: Final = 0.05
_LEAST_WRITES: Final = 25
_MEASURED_WRITES: Final = 100
"""The bot's median covers this many writes; after so many it speaks of what came since the last step."""
_MEMBER_AGE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the story goes.

    Attributes:
        watch: Seconds of trading between two steps.
        rate: Ticks a second.
    """

    watch: float
    rate: float


SHOW: Final = Pace(watch=1.3, rate=50.0)
FAST: Final = Pace(watch=0.0, rate=40.0)


class Stage:
    """Where the demo plays.

    Args:
        work: An empty directory for everything.
        narrator: Tells what happens.
        pace: How fast.
        data: Directory of recorded data; None for the generator.
        seed: Of the generator.
    """

    def __init__(self, work: Path, narrator: Narrator, pace: Pace, data: Path | None, seed: int) -> None:
        self.files = Files(work)
        self.narrator = narrator
        self.pace = pace
        self.ledger = Ledger()
        self.phase = "legacy"
        self.environ = storage_environ(self.files)
        market = ("--seed", str(seed)) if data is None else ("--data", str(data))
        self.bot = BotProcess(self.files, self.environ, (*market, "--rate", f"{pace.rate:g}"))
        self._commands = CommandLine(self.environ, work)
        self._control = ControlStore(self.files.storage / "control.db", ("json", "sqlite"))

    def command(self, *commands: Sequence[str]) -> list[dict[str, Any]]:
        """Show commands, run them side by side, and return what they answer.

        Raises:
            DemoError: One failed, or the bot did.
        """
        for words in commands:
            self.narrator.command(self._commands.text(words))
        answers = self._commands.type(*commands)
        if self.bot.pid:
            self.bot.check()
        return answers

    def set_phase(self, phase: str, why: str, *scope: str, label: str | None = None) -> None:
        """Set a phase, and see that the bot follows.

        Args:
            phase: Its name.
            why: The reason that is kept with it.
            scope: Further words of the command; none means all kinds.
            label: What the panel says from now on; by default the phase.

        Raises:
            DemoError: A command failed, or the bot did not follow.
        """
        (answer,) = self.command(("phase", "set", phase, "--why", why, *scope))
        epoch = answer["epoch"]
        started = time.monotonic()
        while not any(
            one.id.pid == self.bot.pid and one.epoch >= epoch for one in self._control.members(_MEMBER_AGE)
        ):
            self.bot.check()
            if time.monotonic() - started > 10:
                raise DemoError(f"the bot does not follow epoch {epoch}; see {self.files.log}")
            time.sleep(_LOOK)
        self.phase = label or phase
        self.narrator.done(
            f"the running bot (process {self.bot.pid}) follows epoch {epoch}; it was not restarted"
        )

    def measure(self, stores: str) -> None:
        """Let the bot trade, and note how long its writes take with the stores in use now.

        Raises:
            DemoError: It writes no more.
        """
        self.ledger.latency[stores] = self.trade(_MEASURED_WRITES).write_p50_ms

    def trade(self, least: int = _LEAST_WRITES) -> BotStatus:
        """Let the bot trade for a while, and see that it does.

        Args:
            least: Writes that must be acknowledged meanwhile.

        Raises:
            DemoError: It writes no more.
        """
        before = self.bot.status.acknowledged
        time.sleep(self.pace.watch)
        status = self.bot.wait_for(lambda now: now.acknowledged >= before + least, "go on writing")
        self.ledger.ticks = status.tick + 1
        self.ledger.note_comparisons(status)
        return status

    def close_market(self) -> None:
        """Close the market, and wait until the bot has written everything down."""
        self.files.closing_bell.touch()
        self.bot.wait_for(lambda status: status.idle, "come to rest")

    def open_market(self) -> None:
        """Open the market again."""
        self.files.closing_bell.unlink()

    def look(self, question: Callable[[Evidence], Awaitable[T]]) -> T:
        """Ask the stores something, reading them from this process, which writes to none."""

        async def ask() -> T:
            async with reading(self.environ) as evidence:
                return await question(evidence)

        return asyncio.run(ask())

    def prove_nothing_lost(self, moment: str, *stores: str) -> None:
        """Look up every acknowledged write in stores.

        Raises:
            DemoError: One is missing or older.
        """

        async def prove(evidence: Evidence) -> None:
            for store in evidence.stores:
                if store.name in stores:
                    proof = await prove_acknowledged(evidence, store, self.files.acks)
                    self.ledger.acks.append((moment, proof))

        self.look(prove)
        for _, proof in self.ledger.acks[-len(stores) :]:
            found = f"{proof.found:,} found in {proof.store}, {proof.lost:,} lost"
            words = f"{proof.acknowledged:,} writes acknowledged, {found}"
            self.require(proof.ok, words, ", ".join(proof.examples[:5]))

    def require(self, proved: bool, words: str, detail: str = "") -> None:
        """Report a proof.

        Raises:
            DemoError: It failed.
        """
        if not proved:
            raise DemoError(f"proof failed: {words}{f' ({detail})' if detail else ''}")
        self.narrator.done(words)

    def facts(self) -> list[tuple[str, str]]:
        """Return what the panel shows."""
        status = self.bot.status
        compared = [status.counters.get(f"shadow_{name}", 0) for name in ("match", "lagging", "diverged")]
        return [
            ("process", str(self.bot.pid or "none")),
            ("phase", self.phase),
            ("ticks", f"{status.tick + 1:,}"),
            ("trades", f"{status.trades:,}"),
            ("open", str(len(status.open))),
            ("acknowledged", f"{status.acknowledged:,}"),
            ("p50", f"{status.write_p50_ms:.1f} ms"),
            ("match/lag/diverged", "/".join(f"{number:,}" for number in compared)),
        ]
