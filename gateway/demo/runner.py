"""Plays the demo from beginning to end: finds the data, makes the directory, tells the story, cleans up."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from gateway import GatewayError
from gateway.demo.legacy_files import write_legacy_positions
from gateway.demo.market import POSITIONS, find_data, generated_market, recorded_market
from gateway.demo.narrator import Narrator
from gateway.demo.processes import DemoError
from gateway.demo.stage import FAST, SHOW, Stage
from gateway.demo.story import tell
from gateway.errors import InvalidRecordError

__all__ = ["Options", "run"]

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
DATA_VARIABLE: Final = "STORAGE_DEMO_DATA"
GENERATED: Final = Path("generated")
"""Asks for the generator where there are recorded data, too."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for; see `gateway.demo.main`."""

    fast: bool = False
    keep: Path | None = None
    data: Path | None = None
    seed: int = 7
    json_output: bool = False


def run(options: Options) -> int:
    """Play the demo and return its exit code."""
    narrator = Narrator(sys.stderr if options.json_output else sys.stdout)
    try:
        data = _data(options.data)
        work = _directory(options.keep)
    except (InvalidRecordError, OSError) as error:
        narrator.fail(str(error))
        return USAGE
    code = FAILED
    try:
        with _terminated_like_interrupted():
            code = _play(options, narrator, data, work)
    except KeyboardInterrupt:
        narrator.fail("interrupted; the bot was stopped")
        code = INTERRUPTED
    finally:
        _leave(options, narrator, work, code)
    return code


def _data(asked_for: Path | None) -> Path | None:
    """Return the directory of recorded data that was asked for, or that is there; None for the generator.

    Raises:
        InvalidRecordError: There is no recording where one was asked for.
    """
    variable = os.environ.get(DATA_VARIABLE)
    given = asked_for or (Path(variable) if variable else None)
    return None if given == GENERATED else find_data(given)


def _directory(keep: Path | None) -> Path:
    """Return an empty directory to play in.

    Raises:
        InvalidRecordError: The one asked for holds something.
    """
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="gateway-demo-"))
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise InvalidRecordError(f"{keep} is not empty; name a new directory for the demo to keep")
    return keep.resolve()


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that it cleans up as well."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers; whoever runs us elsewhere has its own
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _play(options: Options, narrator: Narrator, data: Path | None, work: Path) -> int:
    stage = Stage(work, narrator, FAST if options.fast else SHOW, data, options.seed)
    try:
        market = generated_market(options.seed) if data is None else recorded_market(data)
        narrator.title(
            "A live bot moves from JSON files to SQLite",
            f"market: {market.symbol}, {market.source}; records carry the market's own times",
            f"directory: {work}",
        )
        legacy = _legacy(data, work, options.seed)
        with narrator.watching(stage.facts):
            tell(stage, legacy)
    except (DemoError, GatewayError, OSError) as error:
        narrator.fail(str(error))
        code = FAILED
    else:
        code = OK
    finally:
        stage.bot.destroy()
    _sum_up(options, stage, code)
    return code


def _legacy(data: Path | None, work: Path, seed: int) -> Path:
    """Return the directory of an older bot's positions; made up where none are recorded."""
    if data is not None and (data / POSITIONS).is_dir():
        return data / POSITIONS
    directory = work / "legacy-positions"
    write_legacy_positions(directory, seed)
    return directory


def _sum_up(options: Options, stage: Stage, code: int) -> None:
    if options.json_output:
        sys.stdout.write(json.dumps({"ok": code == OK, **stage.ledger.as_json()}) + "\n")
    if code != OK:
        return
    ledger, narrator = stage.ledger, stage.narrator
    narrator.table(
        "Acknowledged writes", ("moment", "store", "acknowledged", "found", "lost"), ledger.proof_rows()
    )
    columns = ("kind", "json", "sqlite", "digests", "sqlite at the end")
    narrator.table("Rows in both stores before the last step", columns, ledger.kind_rows())
    narrator.table("The run", ("", ""), ledger.fact_rows())


def _leave(options: Options, narrator: Narrator, work: Path, code: int) -> None:
    """Remove the temporary directory, or say what can be done with what stays."""
    if options.keep is None and code != FAILED:
        shutil.rmtree(work, ignore_errors=True)
    elif code == FAILED:
        narrator.note(f"everything is left in {work} for a look")
    if code != OK:
        return
    if options.keep is None:
        narrator.next(
            "Next, keep the stores and look around:", ("gateway demo --keep ./demo", *_next(Path("demo")))
        )
    else:
        narrator.next("Next, look around:", _next(work))


def _next(work: Path) -> tuple[str, ...]:
    storage = shlex.quote(str(work / "storage"))
    return (
        f"export STORAGE_BACKENDS=json,sqlite STORAGE_DATA_DIR={storage}",
        "gateway stats",
        "gateway query trades --where reason=take-profit --order desc --limit 5",
        "gateway phase show --history 20",
        f"python -m gateway.demo.proof {shlex.quote(str(work))}",
    )
