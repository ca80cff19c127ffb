"""What a clause works with: a place for a store, an event loop, and other processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Collection, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from gateway.backend import Backend, BackendSpec, OpenContext
from gateway.conformance.rows import Scribe
from gateway.dispatch import Store, open_store
from gateway.hookspecs import new_manager
from gateway.records.kind import KindSpec

__all__ = ["Harness"]

T = TypeVar("T")
SETTINGS_VARIABLE: Final = "GATEWAY_CONFORMANCE_SETTINGS"
LIMIT: Final = 60.0
"""Seconds after which a step of a clause counts as hanging."""


class Harness:
    """One clause's surroundings. Close it afterwards; `with` does.

    Args:
        spec: The backend under test.
        context: Where its store is. Every opening in one clause opens this same store.
        import_path: Where another process finds the spec, as `module:attribute`; found by itself if it is a
            module's attribute.
    """

    def __init__(self, spec: BackendSpec, context: OpenContext, import_path: str | None = None) -> None:
        self.spec = spec
        self.context = context
        self._import_path = import_path
        self._runner = asyncio.Runner()
        self._opened: list[Store] = []
        self._backends: dict[int, Backend] = {}
        self._workers: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Harness:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Harness {self.spec.name} stores={len(self._opened)} workers={len(self._workers)}>"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on this clause's loop; one that hangs fails after a minute."""
        return self._runner.run(asyncio.wait_for(work, LIMIT))

    async def open(self, *, read_only: bool = False, without: Collection[KindSpec] = ()) -> Store:
        """Open the store the way the product does, through pluggy; without some kinds, as a lesser program would."""
        manager = new_manager()
        kinds = tuple(kind for kind in self.context.kinds if kind not in without)
        context = replace(self.context, read_only=read_only, kinds=kinds)
        store = await open_store(self.spec, context, manager)
        self._opened.append(store)
        self._backends[id(store)] = cast("Backend", manager.get_plugin(context.instance))
        return store

    def backend(self, store: Store) -> Backend:
        """Return the backend's own object, for what the dispatcher would cover up."""
        return self._backends[id(store)]

    def scribe(self) -> Scribe:
        """Return a scribe with a tenant of its own, so that clauses can share a server."""
        return Scribe(str(uuid.uuid4()))

    def start(self, task: str, scribe: Scribe, *, worker: int = 0, count: int = 0) -> subprocess.Popen[str]:
        """Start another process that opens this store; `release` it. See `gateway.conformance.worker`.

        Args:
            task: `write`, `journal`, `count` or `open`.
            scribe: Whose rows it writes.
            worker: Its number, which makes its rows and versions distinct.
            count: How many batches it writes; 0 for no end.
        """
        arguments = [sys.executable, "-m", "gateway.conformance.worker", self._path(), task]
        arguments += ["--data-dir", str(self.context.data_dir), "--instance", self.context.instance]
        arguments += ["--tenant", scribe.tenant, "--worker", str(worker), "--count", str(count)]
        environment = {
            **os.environ,
            # The child must import whatever this process could import, tests included.
            "PYTHONPATH": os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path),
            # Not an argument: addresses may hold passwords, and every user of a machine can list arguments.
            SETTINGS_VARIABLE: self.context.settings.model_dump_json(),
        }
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            arguments,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._workers.append(process)
        return process

    def release(self, *processes: subprocess.Popen[str]) -> None:
        """Let workers begin, at the same moment, once all of them have the store open."""
        for process in processes:
            assert process.stdout is not None, "a worker is heard through a pipe"
            with _deadline(process):
                ready = process.stdout.readline()
            assert ready, f"a worker process failed:\n{process.communicate(timeout=LIMIT)[1]}"
        for process in processes:
            assert process.stdin is not None, "a worker is spoken to through a pipe"
            process.stdin.write("go\n")
            process.stdin.flush()

    def finish(self, process: subprocess.Popen[str]) -> list[str]:
        """Wait for a worker that ends by itself and return its lines; one that failed fails the clause."""
        out, errors = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, f"a worker process failed:\n{errors}"
        return out.splitlines()

    def kill_after(self, process: subprocess.Popen[str], lines: int, share: float) -> list[str]:
        """Kill a worker, as `kill -9` does, in the middle of its work; return all the lines it printed.

        Args:
            process: The worker, released.
            lines: How many lines to wait for, at least two.
            share: How far into the work on the next line to kill it, as a part of the time that a line takes.
        """
        assert process.stdout is not None, "a worker is heard through a pipe"
        assert process.stderr is not None, "a worker is heard through a pipe"
        with _deadline(process):
            printed, started = [process.stdout.readline()], time.perf_counter()
            printed += [process.stdout.readline() for _ in range(lines - 1)]
            # Not a wait for anything: it picks the point at which the crash comes.
            time.sleep((time.perf_counter() - started) / (lines - 1) * share)
            process.kill()
            # Not communicate(): it reads the pipe itself and misses the lines that readline() took ahead.
            out = process.stdout.read()
            # Second, as what a worker complains of fits into a pipe and cannot hold up its lines.
            errors = process.stderr.read()
            process.wait()
        assert all(printed), f"a worker process ended before it was killed:\n{errors}"
        # A line without its end was being printed; whoever reads it cannot tell what it would have been.
        return [line.rstrip() for line in (*printed, *out.splitlines(keepends=True)) if line.endswith("\n")]

    def close(self) -> None:
        """Release stores, processes and the loop, whatever state the clause left them in."""
        for process in self._workers:
            _end(process)
        for store in reversed(self._opened):
            # The clause has passed or failed by now; a store that cannot close is not its subject.
            with contextlib.suppress(Exception):
                self.run(store.close())
        self._runner.close()

    def _path(self) -> str:
        if self._import_path is not None:
            return self._import_path
        found = next(_paths_of(self.spec), None)
        assert found is not None, (
            f"other processes cannot import the spec {self.spec.name!r}; make it an attribute of a module, "
            "or set `spec_path = 'package.module:ATTRIBUTE'` on the test class"
        )
        return found


def _paths_of(spec: BackendSpec) -> Iterator[str]:
    """Yield where the spec can be imported from: modules of the package that brings it, not a test's own."""
    package = spec.open.__module__.partition(".")[0]
    for name, module in list(sys.modules.items()):
        if name == package or name.startswith(f"{package}."):
            yield from (f"{name}:{found}" for found, value in vars(module).items() if value is spec)


@contextlib.contextmanager
def _deadline(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill a worker that says nothing for too long, so that reading from it ends."""
    timer = threading.Timer(LIMIT, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
