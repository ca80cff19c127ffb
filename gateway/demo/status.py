"""What the bot tells about itself: a small file, replaced a few times a second, for whoever watches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

__all__ = ["BotStatus", "Files"]


@dataclass(frozen=True, slots=True)
class Files:
    """Where the bot and its audience meet, beside the stores.

    Attributes:
        work: The demo's directory.
    """

    work: Path

    @property
    def acks(self) -> Path:
        """The acknowledgement log."""
        return self.work / "acknowledged.jsonl"

    @property
    def status(self) -> Path:
        """The bot's status."""
        return self.work / "status.json"

    @property
    def closing_bell(self) -> Path:
        """While this file is there, the market is closed."""
        return self.work / "market.closed"

    @property
    def log(self) -> Path:
        """What the bot writes to its standard error."""
        return self.work / "bot.log"

    @property
    def storage(self) -> Path:
        """`STORAGE_DATA_DIR` of the demo."""
        return self.work / "storage"


@dataclass(frozen=True, slots=True)
class BotStatus:
    """The state of the bot at one moment.

    Attributes:
        pid: Its process.
        tick: Number of the last tick it worked through.
        trades: Trades inserted by this process.
        acknowledged: Writes acknowledged to this process.
        open: The bot's own open positions, by strategy.
        recovered: Those that it found when it started.
        found_open: All open positions it found then, those of other bots among them.
        write_p50_ms: Median time of the last writes, in milliseconds; 0 before the first.
        idle: Whether the market is closed and everything is written.
        counters: The gateway's own counters.
    """

    pid: int = 0
    tick: int = -1
    trades: int = 0
    acknowledged: int = 0
    open: tuple[str, ...] = ()
    recovered: tuple[str, ...] = ()
    found_open: int = 0
    write_p50_ms: float = 0.0
    idle: bool = False
    counters: Mapping[str, int] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Replace the file; a reader sees the old status or the new one."""
        draft = path.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode(self))
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> BotStatus:
        """Return the last status; an empty one as long as there is none."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            return cls()
