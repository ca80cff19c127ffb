"""The other process in clauses about processes and crashes: `python -m gateway.conformance.worker`.

Tasks:

* `write`: writes the batches of `load_batch` in turn and prints the number of each that is acknowledged.
* `journal`: does the same, and each batch leaves the intents of `load_journaling` behind.
* `count`: counts the probe counter up by `Update` steps and prints a line for each acknowledgement.
* `open`: opens the store and prints `opened`, or the name of the error's class.

All but the last say `ready` when they have the store open, and begin when they get a line on standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from itertools import count
from operator import attrgetter
from pathlib import Path

from gateway.backend import BackendSpec, OpenContext, WriteBatch
from gateway.conformance.harness import SETTINGS_VARIABLE
from gateway.conformance.kinds import ALL_KINDS
from gateway.conformance.rows import FIRST_VERSION, Scribe, batch, group, increment, minutes
from gateway.dispatch import Store, open_store
from gateway.errors import GatewayError
from gateway.intents import Journaling
from gateway.records.row import Row

__all__ = ["MIRROR", "OTHER_MIRROR", "load_batch", "load_journaling", "load_rows", "main"]

MIRROR, OTHER_MIRROR = "mirror", "other"
"""Mirrors that intents are for."""

_STRIDE = 64
"""Versions between one batch and the next; room for the rows of several workers."""


def load_rows(scribe: Scribe, worker: int, number: int) -> tuple[Row, Row, Row, Row]:
    """Return the rows of a worker's batch: a log row, a state shared by all workers, and two of a group."""
    version = FIRST_VERSION + number * _STRIDE + worker * 4
    name = f"w{worker}-{number:06}"
    return (
        scribe.log(name, version=version, moment=minutes(number), note="alone"),
        scribe.state("shared", number % 5, version=version + 1, tally=worker, note=name),
        scribe.log(
            f"{name}-a", version=version + 2, moment=minutes(number), note="group", document={"n": number}
        ),
        scribe.state(f"group-{worker}", number, version=version + 3, amount="0.1", note=name),
    )


def load_batch(scribe: Scribe, worker: int, number: int) -> WriteBatch:
    """Return a worker's batch."""
    alone, shared, *together = load_rows(scribe, worker, number)
    return batch(alone, shared, group(*together))


def load_journaling(scribe: Scribe, worker: int, number: int) -> Journaling:
    """Return which intents a worker's batch leaves behind: of its first row, and for two mirrors of its group."""
    targets = ((MIRROR,), (), (MIRROR, OTHER_MIRROR))
    return Journaling(f"{scribe.tenant}-{worker}", number * len(targets), targets)


async def _write(store: Store, scribe: Scribe, worker: int, numbers: Iterator[int]) -> None:
    for number in numbers:
        await store.write(load_batch(scribe, worker, number))
        _say(str(number))


async def _journal(store: Store, scribe: Scribe, worker: int, numbers: Iterator[int]) -> None:
    for number in numbers:
        steps = load_batch(scribe, worker, number).steps
        await store.write(WriteBatch(steps, load_journaling(scribe, worker, number)))
        _say(str(number))


async def _count(store: Store, scribe: Scribe, _worker: int, numbers: Iterator[int]) -> None:
    for number in numbers:
        await store.write(batch(increment(scribe)))
        _say(str(number))


async def _work(spec: BackendSpec, context: OpenContext, arguments: argparse.Namespace) -> None:
    numbers = iter(range(arguments.count)) if arguments.count else count()
    task = {"write": _write, "journal": _journal, "count": _count}[arguments.task]
    store = await open_store(spec, context)
    try:
        # Nobody writes before all have opened; otherwise each would be done before the next one has started.
        _say("ready")
        sys.stdin.readline()
        await task(store, Scribe(arguments.tenant), arguments.worker, numbers)
    finally:
        await store.close()


async def _try_open(spec: BackendSpec, context: OpenContext) -> None:
    try:
        store = await open_store(spec, context)
    except GatewayError as error:
        _say(type(error).__name__)
        return
    await store.close()
    _say("opened")


def _say(line: str) -> None:
    """Print a line that the parent sees at once; an acknowledgement in a buffer would be none."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gateway.conformance.worker")
    parser.add_argument("spec", help="where the spec is, as package.module:ATTRIBUTE")
    parser.add_argument("task", choices=["write", "journal", "count", "open"])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--instance", required=True)
    parser.add_argument("--tenant", required=True)
    parser.add_argument("--worker", type=int, default=0)
    parser.add_argument("--count", type=int, default=0, help="how many batches; 0 for no end")
    return parser.parse_args()


def main() -> None:
    """Do one task and end."""
    arguments = _parse()
    module, _, attribute = arguments.spec.partition(":")
    spec: BackendSpec = attrgetter(attribute)(import_module(module))
    settings = spec.settings.model_validate_json(os.environ[SETTINGS_VARIABLE])
    context = OpenContext(arguments.instance, settings, ALL_KINDS, arguments.data_dir)
    asyncio.run(_try_open(spec, context) if arguments.task == "open" else _work(spec, context, arguments))


if __name__ == "__main__":
    main()
